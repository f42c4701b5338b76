"""The largest logits of each row, found where they are: those of parts of a row, then of all."""

from dataclasses import dataclass

from jitllm.backends._gpu.dispatch import Dispatch, Form, Place
from jitllm.backends._gpu.lower import Lowering

SIZES = (128, 64, 1)  # how many are found; 64 has the 40 that generations keep unless told
_PART = 1920  # numbers of a workgroup, which takes 2048 or 1024 at a time


@dataclass(frozen=True, slots=True)
class Best:
    """Dispatches, and where they leave k int32 ids and k float32 values for each row."""

    dispatches: tuple[Dispatch, ...]
    found: Place


def find_best(lowering: Lowering) -> dict[int, Best]:
    """Return what finds each of SIZES; nothing without a kernel or without logits."""
    graph = lowering.graph
    if not lowering.kernels.has("best") or graph.is_encoder or graph.output.rows != "O":
        return {}
    return {k: _best(lowering, k) for k in SIZES}


def _best(lowering: Lowering, k: int) -> Best:
    x, n = lowering.place(lowering.graph.output), lowering.graph.vocab_size
    n_parts = -(-n // _PART)
    keys, found = (lowering.take_bytes("best", 8 * k * count) for count in (n_parts, 1))
    for place in (keys, found):  # smaller sizes may have the memory
        lowering.give(place)
    addresses, words = (lowering.count("O"), x, keys, found), (x.stride, n, n_parts * k, _PART)
    forms = [
        Form("best", (k, is_last), addresses, words, 1 if is_last else n_parts)
        for is_last in (0, 1)
    ]
    return Best(tuple(Dispatch((form,), "O") for form in forms), found)
