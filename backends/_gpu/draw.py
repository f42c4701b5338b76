"""How tokens are chosen on a device, as words that the kernel "draw" reads: two for each step."""

import struct
from collections.abc import Sequence

import numpy as np

from jitllm.backends.base import Bytes, Draw

STEPS = (
    "top_k", "top_p", "typical_p", "min_p", "top_n_sigma", "temperature", "dist", "greedy",
)  # fmt: skip
"""The kernel knows them by their places: first those that sort, last those that choose."""
MOST_STEPS = 8
DRAW_BYTES = 8 * MOST_STEPS
_MOST_LEAST = 0xFFFF  # more than there are candidates


def can_draw(draw: Draw) -> bool:
    """Whether the kernel does these steps."""
    names = [step.name for step in draw.steps]
    return 0 < len(names) <= MOST_STEPS and set(names) <= set(STEPS) and names[-1] in STEPS[-2:]


def words_of(draws: Sequence[Draw]) -> Bytes:
    """Return uint8 [rows * DRAW_BYTES]: what the kernel reads of each row."""
    words = bytearray(DRAW_BYTES * len(draws))
    for row, draw in enumerate(draws):
        for at, step in enumerate(draw.steps):
            place, least = STEPS.index(step.name), min(step.least, _MOST_LEAST)
            struct.pack_into("<HHf", words, DRAW_BYTES * row + 8 * at, place, least, step.amount)
    return np.frombuffer(words, np.uint8)
