"""Operations with states on the NumPy backend: sequence after sequence."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node


def over_segments(
    run: Any,
    node: Node,
    out: Floats,
    one: Callable[[Floats, slice], tuple[Floats, Floats]],
) -> Floats:
    """Fill `out` with the rows of every segment and move its state on.

    Parameters
    ----------
    run
        The run, with its batch and backend.
    node : Node
        With the attribute `state`.
    out : float32 [T, width]
    one : callable
        (state before, float32 [size]; rows of the segment) to (outputs of the rows; state behind
        them, of any shape).
    """
    states, index = run.backend.states, node.attrs["state"]
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        before = np.zeros(states.sizes[index], np.float32)
        if segment.state_in >= 0:
            before = states.read(segment.state_in, index)
        out[rows], after = one(before, rows)
        states.write(segment.state_out, index, after.reshape(-1))
    return out
