"""Runs of a graph whose parts are on several devices: they take turns, rows go over the host."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, cast

import numpy as np

from jitllm.backends._split.graph import Cut, Part, Turn
from jitllm.backends.base import Batch, BestSteps, Floats, Ints, Program, Steps, Tap


class SplitProgram(Program):
    """A cut graph.

    Parameters
    ----------
    cut : Cut
    programs : mapping
        Those of the parts, by device.
    max_tokens : int
    """

    def __init__(self, cut: Cut, programs: Mapping[str, Program], max_tokens: int) -> None:
        self.max_tokens, self.closed = max_tokens, False
        self._cut, self._programs = cut, dict(programs)
        self._memory = np.zeros(cut.row_bytes * max_tokens, np.uint8)

    @property
    def n_bytes(self) -> int:
        """Bytes on the host of rows that cross borders."""
        return self._memory.nbytes

    def steps(self, batch: Batch, tap: Tap | None = None) -> Steps:
        """Run a batch; see `Program.steps`."""
        return cast(Floats, (yield from self._walk(batch, tap)))

    @property
    def most_best(self) -> int:
        """Most logits of a row that the device finds which makes them."""
        return self._programs[self._cut.output].most_best

    def best_steps(self, batch: Batch, k: int, tap: Tap | None = None) -> BestSteps:
        """Run a batch and find the largest logits; see `Program.best`."""
        return cast(tuple[Ints, Floats], (yield from self._walk(batch, tap, k)))

    def logits(self, row: int) -> Floats:
        """Return the logits of a row of the last `best`; see `Program.logits`."""
        return self._programs[self._cut.output].logits(row)

    def _walk(self, batch: Batch, tap: Tap | None, n_best: int = 0) -> Generator[str, None, Any]:
        runs = {name: self._begin(name, batch, tap, n_best) for name in self._cut.parts}
        try:
            for turn in self._cut.turns:
                yield from runs[turn.device].take(turn)
        finally:
            for run in runs.values():
                run.steps.close()
        return runs[self._cut.output].result

    def close(self) -> None:
        """Free the buffers on all devices."""
        self.closed, self._memory = True, np.zeros(0, np.uint8)
        with ExitStack() as rest:
            for program in self._programs.values():
                rest.callback(program.close)

    def _begin(self, device: str, batch: Batch, tap: Tap | None, n_best: int) -> "_Run":
        part, program = self._cut.parts[device], self._programs[device]

        def call(name: str, rows: Floats) -> None:
            if name in part.exports:
                self._rows(part.exports[name], len(rows))[:] = rows
            elif name in part.imports:
                rows[:] = self._rows(part.imports[name], len(rows))
            elif tap:
                tap(name, rows)

        if n_best and device == self._cut.output:
            return _Run(part, program.best_steps(_for(part, batch), n_best, call))
        return _Run(part, program.steps(_for(part, batch), call))

    def _rows(self, value: int, n: int) -> Floats:
        """Where the rows of a value are on the host: [n, width]."""
        start, width = self._cut.places[value] * self.max_tokens, self._cut.values[value].width
        return self._memory[start : start + 4 * n * width].view(np.float32).reshape(n, width)


class _Run:
    """The run of one part, which stands before the hook point `at`."""

    def __init__(self, part: Part, steps: Generator[str, None, Any]) -> None:
        self.part, self.steps, self.at, self.result = part, steps, "", None

    def take(self, turn: Turn) -> Iterator[str]:
        """Run until rows are wanted that are not there yet."""
        while self.at not in self.part.imports or self.at in turn.imports:
            try:
                self.at = next(self.steps)
            except StopIteration as end:
                self.result = end.value
                break
            if self.at in self.part.own:
                yield self.at


def _for(part: Part, batch: Batch) -> Batch:
    """Return a batch without what the part does not read: it cannot check it."""
    if part.reads_tokens:
        return batch
    tokens = np.zeros_like(batch.tokens)
    return Batch(tokens, batch.positions, batch.output_rows, batch.segments, batch.hidden)
