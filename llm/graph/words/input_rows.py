"""`input_rows`: float rows that a run brings beside its tokens.

========== ======= ==============================
op         weights attrs; what y is
========== ======= ==============================
input_rows ()      y[t] = `Batch.hidden`[t]
========== ======= ==============================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def input_rows(g: GraphBuilder, width: int, *, name: str) -> Value:
    """The float rows of the run: [T, width]."""
    return g.node("input_rows", name, (), "T", width)
