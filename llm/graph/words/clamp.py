"""`clamp`: values kept between two bounds.

===== ======= ==========================================
op    weights attrs; what y is
===== ======= ==========================================
clamp ()      bound; y = min(max(x, -bound), bound)
===== ======= ==========================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def clamp(g: GraphBuilder, x: Value, bound: float, *, name: str) -> Value:
    """x between -bound and bound: [rows, width]. `bound` is positive."""
    if not bound > 0:
        raise ValueError(f"{name}: expected a positive bound, got {bound}")
    return g.node("clamp", name, (x,), x.rows, x.width, (), {"bound": float(bound)})
