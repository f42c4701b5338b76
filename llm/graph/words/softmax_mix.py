"""`softmax_mix`: a mean of several values of the same shape, weighted row by row.

=========== =======================================================================================
op          inputs; what y is
=========== =======================================================================================
softmax_mix n values x_c [rows, width], then n scores s_c [rows, 1]; y = sum over c of p_c * x_c, p
            being the softmax of a row's n scores
=========== =======================================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def softmax_mix(g: GraphBuilder, values: list[Value], scores: list[Value], *, name: str) -> Value:
    """Sum of `values` [rows, width] weighted by the softmax of `scores` [rows, 1]: same shape."""
    first = values[0]
    shapes = {(v.rows, v.width) for v in values}, {(s.rows, s.width) for s in scores}
    if shapes != ({(first.rows, first.width)}, {(first.rows, 1)}) or len(values) != len(scores):
        raise ValueError(f"{name}: {len(values)} values {shapes[0]}, {len(scores)} {shapes[1]}")
    return g.node("softmax_mix", name, (*values, *scores), first.rows, first.width)
