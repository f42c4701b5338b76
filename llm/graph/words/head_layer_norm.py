"""`head_layer_norm`: layer norm of every head on its own.

=============== ======= =====================================================================
op              weights attrs; what y is
=============== ======= =====================================================================
head_layer_norm ()      group, eps; y = (x - mean) / sqrt(var + eps) over each `group` columns
=============== ======= =====================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def head_layer_norm(g: GraphBuilder, x: Value, *, n_heads: int, eps: float, name: str) -> Value:
    """(x - mean) / sqrt(var + eps) over each head's columns, without weights: [rows, H*D].

    Source: Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """
    if n_heads < 1 or x.width % n_heads:
        raise ValueError(f"{name}: {n_heads} heads do not divide {x.width} columns")
    attrs = {"group": x.width // n_heads, "eps": eps}
    return g.node("head_layer_norm", name, (x,), x.rows, x.width, (), attrs)
