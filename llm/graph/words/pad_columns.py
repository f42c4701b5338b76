"""`pad_columns`: columns of one number in front of a value's own.

=========== ======= ===========================================================
op          weights attrs; what y is
=========== ======= ===========================================================
pad_columns ()      before, number; y = (`before` times number, x): [rows, before + width]
=========== ======= ===========================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def pad_columns(g: GraphBuilder, x: Value, before: int, number: float, *, name: str) -> Value:
    """`before` columns that hold `number`, then those of x: [rows, before + width]."""
    if before < 1:
        raise ValueError(f"{name}: expected columns to add, got {before}")
    attrs = {"before": before, "number": float(number)}
    return g.node("pad_columns", name, (x,), x.rows, before + x.width, (), attrs)
