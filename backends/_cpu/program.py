"""Runs of a plan on the CPU: inputs in, ops in slices short enough for Ctrl-C, taps, logits out."""

import time

import numpy as np
import numpy.typing as npt

from jitllm.backends._cpu.lower import ROW_WORDS, Cut, Lowering
from jitllm.backends._cpu.threads import ThreadPool
from jitllm.backends._pattern import apply_pattern_tap
from jitllm.backends.base import Batch, Floats, Program, Steps, Tap, rows_of
from jitllm.backends.ir import Graph
from jitllm.kernels import abi

SLICE_S = 0.05  # aim for the time that one native call takes; Python handles signals in between
FIRST_RATE = 5e9  # cost units a second, before the first slice was timed
FEW_ROWS = 16  # reading the weights costs as much as multiplying this many rows


class CpuProgram(Program):
    """A planned graph with its buffers."""

    def __init__(
        self,
        graph: Graph,
        lowering: Lowering,
        run: npt.NDArray[np.int64],
        threads: ThreadPool,
        max_tokens: int,
    ) -> None:
        self.graph, self.max_tokens, self.closed = graph, max_tokens, False
        self._run, self._threads, self._lowering = run, threads, lowering
        self._plan = lowering.plan()
        attentions = [node for node in graph.nodes if node.op == "attention"]
        self._has_alone = any(node.attrs["cache"] < 0 for node in attentions)
        self._has_cross = any(node.attrs["cross"] for node in attentions)
        self._costs = np.cumsum([op.cost for op in self._plan.ops])
        self._rate = FIRST_RATE
        last = self._plan.ops[-1]
        names = [name.partition(":")[0] for name in last.kernel[0].fields]
        self._output_words = last.block, 1 + names.index("y"), 1 + names.index("ldy")

    @property
    def n_bytes(self) -> int:
        """Bytes of the plan and of what its ops point to besides the weights."""
        return 0 if self.closed else self._plan.n_bytes + self._lowering.kept_bytes

    def steps(self, batch: Batch, tap: Tap | None = None) -> Steps:
        """Run a batch; see `Program.steps`. A KeyboardInterrupt leaves a run unfinished."""
        n_tokens, n_outputs = len(batch.tokens), len(batch.output_rows)
        if not 1 <= n_tokens <= self.max_tokens:
            raise ValueError(f"expected 1 to {self.max_tokens} tokens, got {n_tokens}")
        if batch.tokens.min() < 0 or batch.tokens.max() >= self._n_embeddings():
            raise ValueError(f"token ids must be from 0 to {self._n_embeddings() - 1}")
        alive = self._set_inputs(batch)
        logits = self._new_logits(n_outputs)
        self._plan.words[:, abi.OP_COUNTER] = 0
        done = 0
        for cut in self._lowering.cuts:
            done = self._run_to(done, cut.stop, n_tokens)
            if tap:
                yield cut.node.name
                self._show(cut, batch, tap, logits)
        self._run_to(done, len(self._plan.ops), n_tokens)
        del alive
        return logits[:, : self.graph.vocab_size]

    def _n_embeddings(self) -> int:
        return min(
            (self._lowering.weights[node.weights[0]].n for node in self.graph.nodes
             if node.op == "embed"), default=self.graph.vocab_size,
        )  # fmt: skip

    def _set_inputs(self, batch: Batch) -> list[npt.NDArray[np.generic]]:
        """Point the run block at a batch; returns the arrays that must live until it has run."""
        run, tables = self._run, []
        segments = np.zeros((len(batch.segments), abi.SEGMENT_WORDS), np.int64)
        for words, segment in zip(segments, batch.segments, strict=True):
            addresses = np.array([table.ctypes.data for table in segment.tables], np.int64)
            tables.append(addresses)
            words[:] = (
                segment.row, segment.rows, segment.position, addresses.ctypes.data,
                segment.state_in, segment.state_out,
            )  # fmt: skip
        run[abi.N_TOKENS], run[abi.N_OUTPUTS] = len(batch.tokens), len(batch.output_rows)
        arrays: list[npt.NDArray[np.generic]] = [
            np.ascontiguousarray(values, np.int32)
            for values in (batch.tokens, batch.positions, batch.output_rows)
        ]
        for word, array in zip((abi.TOKENS, abi.POSITIONS, abi.OUTPUT_ROWS), arrays, strict=True):
            run[word] = array.ctypes.data
        run[abi.N_SEGMENTS], run[abi.SEGMENTS] = len(segments), segments.ctypes.data
        if self._has_alone:
            arrays += self._set_alone(segments)
        if self._has_cross:
            arrays.append(self._set_cross(segments, batch))
        for slope, length, offset, factors in self._lowering.row_factors:
            steps = (batch.positions + offset) // length
            factors[: len(steps), 0] = 1 + slope * np.log(steps + 1.0)
        for rows in self._lowering.input_rows:
            rows[: len(batch.tokens)] = rows_of(batch, rows.shape[1])
        return [segments, *tables, *arrays]

    def _set_alone(self, segments: npt.NDArray[np.int64]) -> list[npt.NDArray[np.generic]]:
        """Give every segment pages of this run for attention that remembers nothing."""
        alone, first = segments.copy(), 0
        tables: list[npt.NDArray[np.generic]] = []
        for words in alone:
            n_pages = -(-int(words[abi.SEGMENT_ROWS]) // abi.PAGE_TOKENS)
            numbers = np.arange(first, first + n_pages, dtype=np.int32)
            table = np.array([numbers.ctypes.data], np.int64)
            words[abi.SEGMENT_POSITION], words[abi.SEGMENT_TABLES] = 0, table.ctypes.data
            tables += [numbers, table]
            first += n_pages
        self._run[abi.SEGMENTS_ALONE] = alone.ctypes.data
        return [alone, *tables]

    def _set_cross(self, segments: npt.NDArray[np.int64], batch: Batch) -> npt.NDArray[np.generic]:
        """Let every segment see all cells that the encoder left it, and no others."""
        cross = segments.copy()
        ends = [segment.n_cross for segment in batch.segments]
        cross[:, abi.SEGMENT_POSITION] = ends - cross[:, abi.SEGMENT_ROWS]
        self._run[abi.SEGMENTS_CROSS] = cross.ctypes.data
        return cross

    def _new_logits(self, n_outputs: int) -> Floats:
        """Make the last op write to fresh rows, which then belong to the caller."""
        width = -(-self.graph.vocab_size // 16) * 16
        logits = np.empty((n_outputs, width), np.float32)
        block, y, ldy = self._output_words
        block[y], block[ldy] = logits.ctypes.data, 4 * width
        return logits

    def _run_to(self, done: int, stop: int, n_tokens: int) -> int:
        """Run ops `done` to `stop` in slices of about SLICE_S seconds."""
        rows = max(n_tokens, FEW_ROWS)
        while done < stop:
            before = self._costs[done - 1] if done else 0.0
            budget = before + self._rate * SLICE_S / rows
            last = min(stop, max(done + 1, int(np.searchsorted(self._costs, budget, "right"))))
            start = time.perf_counter()
            self._threads.run(self._plan.address, done, last)
            elapsed = time.perf_counter() - start
            if elapsed > SLICE_S / 10:
                self._rate = max(FIRST_RATE, (self._costs[last - 1] - before) * rows / elapsed)
            done = last
        return done

    def _show(self, cut: Cut, batch: Batch, tap: Tap, logits: Floats) -> None:
        """Give a tapped value to the tap, in place."""
        value = cut.node.outputs[0]
        if value.id == self.graph.output.id:  # written to the caller's rows
            tap(value.name, logits[:, : value.width])
            return
        n_rows = int(self._run[ROW_WORDS[value.rows]])
        rows = self._plan.rows(cut.buffer, n_rows, value.width)
        if not cut.inputs:
            tap(value.name, rows)
            return
        widths = (value.width for value in cut.node.inputs)
        inputs = [
            self._plan.rows(buffer, n_rows, width)
            for buffer, width in zip(cut.inputs, widths, strict=True)
        ]
        sinks = self._lowering.vectors.get(cut.node.weights[0])
        apply_pattern_tap(cut.node, inputs, rows, batch, self._lowering.pools, sinks, tap)

    def close(self) -> None:
        """Free the buffers."""
        self._plan.memory = np.zeros(0, np.uint8)
        self._plan.ops, self._lowering.constants, self._lowering.input_rows = [], [], []
        self.closed = True
