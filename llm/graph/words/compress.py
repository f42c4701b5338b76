"""Words of compressed keys: one for every `ratio` positions, made of theirs.

============ ======= ==============================================================================
op           weights attrs; what y is
============ ======= ==============================================================================
compress     ()      cache, layer, ratio, overlap, ape (float32 [ratio, width]); inputs x, scores.
                     Writes both to the cache; at rows whose position ends `ratio` positions, each
                     column of y is the sum of x over them by the softmax of scores + ape[position
                     % ratio], at others 0. With overlap, x has 2 n columns: y takes the first n of
                     the `ratio` positions before, the last n of its own, in one softmax
rope_behind  ()      as `rope`, and behind, start; y is x turned by the position - behind, of each
                     head the columns from `start` on
============ ======= ==============================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.rope import Rotation


def compress(
    g: GraphBuilder, x: Value, scores: Value, *, ratio: int, ape: Floats, overlap: bool, name: str
) -> Value:
    """The compressed keys of rows that end `ratio` positions, zeros in other rows: [T, n].

    Parameters
    ----------
    g : GraphBuilder
    x, scores : Value
        [T, n], with `overlap` [T, 2 n].
    ratio : int
    ape : float32 [ratio, width of x]
        Added to the scores of each place in the `ratio` positions.
    overlap : bool
    name : str

    Notes
    -----
    DeepSeek-AI, "DeepSeek-V4", 2026.
    """
    if x.width != scores.width or ape.shape != (ratio, x.width) or x.width % (2 if overlap else 1):
        raise ValueError(f"{name}: {x} and {scores}, ratio {ratio}, ape {ape.shape}")
    window = ratio * (2 if overlap else 1)
    cache, layer = g.cache_place(window, (1, x.width, x.width))
    attrs = {"cache": cache, "layer": layer, "ratio": ratio, "overlap": overlap, "ape": ape}
    width = x.width // (2 if overlap else 1)
    return g.node("compress", name, (x, scores), x.rows, width, (), attrs)


def rope_behind(
    g: GraphBuilder,
    x: Value,
    rotation: Rotation,
    *,
    n_heads: int,
    behind: int,
    name: str,
    first: bool = False,
) -> Value:
    """Rope on columns of each head, by the position `behind` before the row's: [T, H*D].

    The last columns turn, or (`first`) the first ones. At positions before `behind` the position
    is 0.
    """
    size, n_rot = x.width // n_heads, 2 * len(rotation.frequencies)
    if n_rot > size or x.width % n_heads or behind < 0:
        raise ValueError(f"{name}: {n_rot} columns to turn in {n_heads} heads of {x}")
    attrs = {
        "n_heads": n_heads, "kind": rotation.kind, "frequencies": rotation.frequencies,
        "magnitude": rotation.magnitude, "behind": behind, "start": 0 if first else size - n_rot,
    }  # fmt: skip
    return g.node("rope_behind", name, (x,), x.rows, x.width, (), attrs)
