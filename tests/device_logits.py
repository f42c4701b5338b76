"""A device that keeps logits to itself, made of one that does not: for tests of what asks for them.

Logits that nobody fetched are lost at the next run, as on a GPU.
"""

from collections.abc import Sequence

import numpy as np
from host_draw import chosen

from jitllm import Model
from jitllm.backends.base import Batch, Draw, Floats, Ints, Program, Tap


class KeepingProgram(Program):
    """Runs another program; `best` gives the host what it asks for, and counts the bytes."""

    def __init__(self, program: Program) -> None:
        self.program, self.max_tokens, self.n_bytes = program, program.max_tokens, 0
        self._kept = np.empty((0, 0), np.float32)

    @property
    def most_best(self) -> int:
        """As GPUs find."""
        return 128

    def run(self, batch: Batch, tap: Tap | None = None) -> Floats:
        """Run, and forget what `best` kept."""
        self._kept.fill(np.nan)
        logits = self.program.run(batch, tap)
        self.n_bytes += logits.nbytes
        return logits

    def best(self, batch: Batch, k: int) -> tuple[Ints, Floats]:
        """Return the k largest."""
        assert k <= self.most_best
        self._kept.fill(np.nan)
        logits = self._kept = self.program.run(batch).copy()
        ids = np.argsort(-logits, axis=1, kind="stable")[:, :k].astype(np.int32)
        self.n_bytes += 2 * ids.nbytes
        return ids, np.take_along_axis(logits, ids, 1)

    def logits(self, row: int) -> Floats:
        """Return all of a row."""
        logits: Floats = self._kept[row].copy()
        self.n_bytes += logits.nbytes
        return logits

    def close(self) -> None:
        """Free the buffers."""
        self.program.close()


class DrawingProgram(KeepingProgram):
    """Chooses tokens too, by the host's samplers."""

    def can_draw(self, draw: Draw) -> bool:
        """As GPUs can."""
        return draw.n <= self.most_best

    def draw(self, batch: Batch, draws: Sequence[Draw]) -> Ints:
        """Return a token for each row."""
        self._kept.fill(np.nan)
        logits = self._kept = self.program.run(batch).copy()
        pairs = zip(logits, draws, strict=True)
        ids = [chosen(row, draw)[0] if np.isfinite(row.max()) else -1 for row, draw in pairs]
        self.n_bytes += 4 * len(ids)
        return np.array(ids, np.int32)


def keep_logits(model: Model, *, is_drawing: bool = False) -> KeepingProgram:
    """Let the logits of a model stay where they are computed; returns what runs it."""
    engine = model.engine
    kind = DrawingProgram if is_drawing else KeepingProgram
    engine._program = keeping = kind(engine._program)
    return keeping
