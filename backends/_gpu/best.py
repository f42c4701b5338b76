"""The largest logits of each row, found where they are, and a token that is drawn from them."""

from dataclasses import dataclass

from jitllm.backends._gpu.dispatch import Dispatch, Form, Place
from jitllm.backends._gpu.draw import DRAW_BYTES
from jitllm.backends._gpu.lower import Lowering

SIZES = (128, 64, 1)  # how many are found; 64 has the 40 that generations keep unless told
_PART = 1920  # numbers of a workgroup, which takes 2048 or 1024 at a time


@dataclass(frozen=True, slots=True)
class Best:
    """What finds the k largest logits of rows, and draws a token from them.

    Attributes
    ----------
    dispatches : tuple of Dispatch
        First those of parts of a row, then of all, then the one that draws.
    found : Place
        k int32 ids and k float32 values for each row.
    draws : Place
        What a run writes of each row: how it is drawn.
    drawn : Place
        An int32 id for each row.
    """

    dispatches: tuple[Dispatch, ...]
    found: Place
    draws: Place
    drawn: Place


def find_best(lowering: Lowering) -> dict[int, Best]:
    """Return what finds each of SIZES; nothing without kernels or without logits."""
    graph, has = lowering.graph, lowering.kernels.has
    if not (has("best") and has("draw")) or graph.is_encoder or graph.output.rows != "O":
        return {}
    draws = lowering.row_place(DRAW_BYTES)
    return {k: _best(lowering, k, draws) for k in SIZES}


def _best(lowering: Lowering, k: int, draws: Place) -> Best:
    x, n = lowering.place(lowering.graph.output), lowering.graph.vocab_size
    n_parts, rows = -(-n // _PART), lowering.count("O")
    sizes = 8 * k * n_parts, 8 * k, 4
    keys, found, drawn = places = [lowering.take_bytes("best", size) for size in sizes]
    for place in places:  # smaller sizes may have the memory
        lowering.give(place, now=True)
    addresses, words = (rows, x, keys, found), (x.stride, n, n_parts * k, _PART)
    forms = [
        Form("best", (k, is_last), addresses, words, 1 if is_last else n_parts)
        for is_last in (0, 1)
    ]
    forms.append(Form("draw", (), (rows, found, draws, drawn), (k, n, DRAW_BYTES), 1))
    return Best(tuple(Dispatch((form,), "O") for form in forms), found, draws, drawn)
