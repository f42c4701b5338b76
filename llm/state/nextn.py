"""Runs the blocks of a model that predict further tokens, beside the model and on its weights.

A block at position p reads token p and the hidden row of position p - 1, zeros where there is none,
and gives the logits of token p + 1 and a hidden row. It remembers what it has read, so it has to
run over the whole text, with the rows that `HiddenRows` gets of the model. To draft, it reads rows
that it gave itself, or that the block before it gave.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Batch, Segment
from jitllm.backends.ir import Graph
from jitllm.llm.errors import ClosedError
from jitllm.llm.failures import device_errors
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.pages import PagePool, pool_pages

Floats = npt.NDArray[np.float32]


class HiddenRows:
    """A hook that keeps the hidden rows of every token that runs.

    Parameters
    ----------
    graph : Graph
        One that has `hidden`.
    """

    def __init__(self, graph: Graph) -> None:
        self.taps = frozenset({graph.hidden})
        self._rows: list[Floats] = []

    def __call__(self, tap: str, values: Floats) -> None:
        """Keep a copy of the rows of a piece."""
        self._rows.append(values.copy())

    def take(self) -> Floats:
        """Return the rows kept since the last call: [T, n]."""
        rows = np.concatenate(self._rows)
        self._rows.clear()
        return rows


class NextnBlock:
    """One block that predicts further tokens: its caches and its program.

    Parameters
    ----------
    engine : Engine
        Of the model: its backend has the weights of the block, and runs take turns with its own.
    graph : Graph
        One of `OpenModel.mtp`.
    kv_dtype : str
        As the engine's.

    Raises
    ------
    BackendError
        If the device cannot run the block.
    """

    def __init__(self, engine: Engine, graph: Graph, kv_dtype: str = "f16") -> None:
        self.graph, self.closed, self._engine = graph, False, engine
        max_tokens, backend = engine.max_tokens, engine.backend
        is_held = backend.holds_pools
        n_pages = pool_pages(graph.caches, engine.n_ctx, max_tokens, kv_dtype, is_held)
        self._pools = list[PagePool]()
        with device_errors(of_memory=True), ExitStack() as undo:
            undo.callback(self._close_pools)
            for spec in graph.caches:
                self._pools.append(PagePool(backend.new_pool(spec, n_pages, kv_dtype)))
            self._program = backend.compile(
                graph, [pool.pool for pool in self._pools], max_tokens=max_tokens,
                taps=frozenset({graph.hidden}),
            )  # fmt: skip
            undo.pop_all()
        engine.drafts.add(self)

    def new_cells(self) -> Cells:
        """Return the cells of a new sequence, without pages."""
        return Cells(self._pools)

    def run(
        self,
        cells: Cells,
        tokens: Sequence[int],
        hidden: Floats,
        position: int,
        rows: npt.NDArray[np.intp],
    ) -> tuple[Floats, Floats]:
        """Run tokens of a sequence; returns logits and hidden rows.

        Parameters
        ----------
        cells : Cells
            Of the sequence; cells before `position` are written.
        tokens : sequence of int
        hidden : float32 [T, n]
            The rows of the positions before those of the tokens.
        position : int
            Of the first token.
        rows : ints, ascending
            Of `tokens`: those whose logits are wanted.

        Returns
        -------
        logits : float32 [rows, V]
        hidden : float32 [T, n]
            Of every token.

        Raises
        ------
        ClosedError
            If the block or the model was closed.
        BackendError
            If no page is free.
        """
        ids, own = np.asarray(tokens, np.int32), HiddenRows(self.graph)
        logits = [np.empty((0, self.graph.vocab_size), np.float32)]
        for start in range(0, len(ids), self._engine.max_tokens):
            stop = min(start + self._engine.max_tokens, len(ids))
            wanted = rows[(rows >= start) & (rows < stop)] - start
            positions = np.arange(position + start, position + stop, dtype=np.int32)
            with self._engine.turn():
                if self.closed:
                    raise ClosedError("the block was closed; make another")
                cells.prepare(position + start, position + stop)
                segment = Segment(0, stop - start, position + start, cells.tables)
                batch = Batch(
                    ids[start:stop], positions, wanted.astype(np.int32), [segment],
                    hidden[start:stop],
                )  # fmt: skip
                with device_errors():
                    logits.append(self._program.run(batch, own))
            cells.forget(position + stop)
        return np.concatenate(logits), own.take()

    def close(self) -> None:
        """Free caches and buffers; the weights are the model's, which frees all when it closes."""
        if not self.closed:
            with self._engine.turn():
                self.free()

    def free(self) -> None:
        """Do so in the turn of this thread: the engine, before it closes."""
        if not self.closed:
            self.closed = True
            self._program.close()
            self._close_pools()

    def _close_pools(self) -> None:
        for pool in self._pools:
            pool.pool.close()
