"""`add_row`: one row of numbers added to every row.

======= ======= =========================================================
op      weights attrs; what y is
======= ======= =========================================================
add_row ()      row (float32 [width]); y = x + row
======= ======= =========================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder


def add_row(g: GraphBuilder, x: Value, row: Floats, *, name: str) -> Value:
    """x + row, for a row that is no tensor of its own but part of one: [rows, width]."""
    if row.shape != (x.width,):
        raise ValueError(f"{name}: expected a row of {x.width} numbers, got {row.shape}")
    return g.node("add_row", name, (x,), x.rows, x.width, (), {"row": row})
