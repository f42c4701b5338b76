"""Pieces of several texts side by side in one run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Batch, Segment
from jitllm.llm.state.cells import Cells

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one text.

    Attributes
    ----------
    cells : Cells or None
        Of the sequence; None for a model that remembers nothing.
    ids : int32 [T]
    position : int
        Of the first token; cells before it are written.
    rows : ints, ascending
        Those of the tokens whose last values are wanted.
    """

    cells: Cells | None
    ids: Ints
    position: int
    rows: npt.NDArray[np.intp]

    @property
    def stop(self) -> int:
        """Position behind the last token."""
        return self.position + len(self.ids)

    def segment(self, row: int) -> Segment:
        """Return it as rows of a batch that begin at `row`."""
        if self.cells is None:
            return Segment(row, len(self.ids), self.position, ())
        slots, n_cross = self.cells.state_slots, self.cells.n_cross
        return Segment(row, len(self.ids), self.position, self.cells.tables, *slots, n_cross)


def batch_of(pieces: Sequence[Piece]) -> Batch:
    """Return a batch of the pieces, one behind the other; their cells are prepared."""
    if len(pieces) == 1:  # most runs
        (piece,) = pieces
        positions = np.arange(piece.position, piece.stop, dtype=np.int32)
        return Batch(piece.ids, positions, piece.rows.astype(np.int32), [piece.segment(0)])
    starts = np.cumsum([0, *(len(piece.ids) for piece in pieces)])[:-1]
    rows = [start + piece.rows for start, piece in zip(starts, pieces, strict=True)]
    return Batch(
        np.concatenate([piece.ids for piece in pieces]),
        np.concatenate([np.arange(p.position, p.stop, dtype=np.int32) for p in pieces]),
        np.concatenate(rows).astype(np.int32),
        [piece.segment(int(start)) for start, piece in zip(starts, pieces, strict=True)],
    )
