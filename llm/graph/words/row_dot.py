"""`row_dot`: the product with one vector, which files store without a second dimension.

======== ============ ==========================================================================
op       weights      what y is
======== ============ ==========================================================================
row_dot  (w (n,),)    y[t, 0] = sum over j of x[t, j] * w[j]
======== ============ ==========================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def row_dot(g: GraphBuilder, x: Value, weight: str, *, name: str) -> Value:
    """x w with a tensor (x.width,): [rows, 1]."""
    g.weight(weight, (x.width,))
    return g.node("row_dot", name, (x,), x.rows, 1, (weight,))
