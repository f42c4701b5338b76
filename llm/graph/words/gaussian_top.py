"""`gaussian_top`: of every row the largest values, as many as a normal distribution has there.

============ ======= =====================================================================
op           weights attrs; what y is
============ ======= =====================================================================
gaussian_top ()      deviations; y = max(x - mean - deviations * std, 0) by rows, std being
                     sqrt(sum((x - mean)^2) / (width - 1))
============ ======= =====================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def gaussian_top(g: GraphBuilder, x: Value, deviations: float, *, name: str) -> Value:
    """What of x is more than `deviations` standard deviations above its row's mean: same shape.

    Published models' own code divides by the width, not by one less: 6e-5 of the deviation for 8192
    columns. Source: You et al., "Spark Transformer: Reactivating Sparsity in FFN and Attention",
    2025.
    """
    if x.width < 2:
        raise ValueError(f"{name}: a row of {x.width} column has no deviation")
    attrs = {"deviations": float(deviations)}
    return g.node("gaussian_top", name, (x,), x.rows, x.width, (), attrs)
