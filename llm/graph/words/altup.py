"""Words of alternating updates: several residual streams, of which a block updates one.

============ ======= ==============================================================================
op           weights attrs; what y is
============ ======= ==============================================================================
weighted_add ()      start, shift; inputs x, gates, then n sources; y[t] = x[t] + sum over j of
                     (gates[t, start + j] + shift) * source_j[t]
match_rms    ()      floor; inputs x, like; y = x * rms(like) / rms(x), over each like.width
                     columns of x, rms(x) = sqrt(mean(x^2)), that of x at least sqrt(floor)
============ ======= ==============================================================================

Source: Baykal et al., "Alternating Updates for Efficient Transformers", 2023.
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder

RMS_FLOOR = 1e-5  # of the mean square that is divided by


def weighted_add(
    g: GraphBuilder,
    x: Value,
    sources: list[Value],
    gates: Value,
    *,
    start: int,
    name: str,
    shift: float = 0.0,
) -> Value:
    """x plus the sources, each times its own column of `gates` [rows, any], + `shift`: as x.

    The columns are those from `start` on.
    """
    shapes = {(value.rows, value.width) for value in (x, *sources)}
    end = start + len(sources)
    if len(shapes) != 1 or gates.rows != x.rows or not 0 <= start < end <= gates.width:
        raise ValueError(f"{name}: columns {start}:{end} of {gates} for values {shapes}")
    attrs = {"start": start, "shift": float(shift)}
    return g.node("weighted_add", name, (x, gates, *sources), x.rows, x.width, (), attrs)


def match_rms(g: GraphBuilder, x: Value, like: Value, *, name: str) -> Value:
    """Each like.width columns of x, made as large as `like` [rows, n]: [rows, x.width]."""
    if x.rows != like.rows or x.width % like.width:
        raise ValueError(f"{name}: {x} in parts like {like}")
    attrs = {"floor": RMS_FLOOR}
    return g.node("match_rms", name, (x, like), x.rows, x.width, (), attrs)
