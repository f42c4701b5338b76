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


def project(g: GraphBuilder, x: Value, weight: str, width: int, *, name: str) -> Value:
    """x w^T with a matrix (width, K), which for width 1 may be a vector (K,): [rows, width]."""
    if width == 1 and g.has(weight) and len(g.tensors[weight].shape) == 1:
        return row_dot(g, x, weight, name=name)
    return g.matmul(x, weight, width=width, name=name)
