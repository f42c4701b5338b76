"""Everything that a sequence needs to go on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jitllm.backends.ir import Graph
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.logits import Logits
from jitllm.llm.state.shift import remove_cells
from jitllm.llm.state_files.file import Lineage

if TYPE_CHECKING:
    from jitllm.llm.state.continuation import Continuation


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many first items are the same."""
    n_common = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n_common += 1
    return n_common


@dataclass
class Contents:
    """Tokens, cells, logits, and the generation under way.

    Attributes
    ----------
    cells : Cells
    ids : list of int
    source : list of int
        What the model's encoder read, if it has one.
    n_done : int
        Tokens whose cells are written.
    last : (int, Logits) or None
        Logits behind so many tokens.
    continuation : Continuation or None
        How the last generation samples, to go on with it.
    lineage : Lineage or None
        What an earlier save left in a file.
    """

    cells: Cells
    ids: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    n_done: int = 0
    last: tuple[int, Logits] | None = None
    continuation: "Continuation | None" = None
    lineage: Lineage | None = None

    def fork(self) -> "Contents":
        """Return independent contents that share pages and states until written to."""
        continuation = self.continuation and self.continuation.clone()
        return Contents(
            self.cells.fork(), list(self.ids), list(self.source), self.n_done, self.last,
            continuation, self.lineage,
        )  # fmt: skip

    @property
    def logits(self) -> Logits | None:
        """Logits behind the last token, if they are known."""
        return self.last[1] if self.last and self.last[0] == len(self.ids) else None

    def push(self, token: int) -> None:
        """Add a token whose cells are written later.

        Logits before it are of use where states cannot be cut, for the same text without it.
        """
        self.ids.append(token)
        if not self.cells.state_sizes:
            self.last = None  # or another sequence's run would fetch them from the device

    def need_last(self) -> None:
        """Let the last token be computed again, if its logits were not kept; others are dropped."""
        if self.logits is None:
            self.last = None
            if self.n_done == len(self.ids):
                self.cut_cells(len(self.ids) - 1)

    def forget_undone(self) -> None:
        """Drop the tokens whose cells were not computed."""
        del self.ids[self.n_done :]
        self.lineage = self.lineage and self.lineage.cut(self.n_done)

    def cut(self, n_tokens: int) -> None:
        """Keep the first tokens, and of the cells what still can be used."""
        del self.ids[n_tokens:]
        self.cut_cells(min(self.n_done, n_tokens))
        self.lineage = self.lineage and self.lineage.cut(n_tokens)
        self.continuation = None

    def remove(self, start: int, stop: int, graph: Graph) -> None:
        """Drop tokens from the middle; the cells of those behind them move up.

        Raises
        ------
        StateError
            If they cannot: see `shift.turns_of`. Nothing changes.
        BackendError
            If the caches have no page free. Nothing changes.
        """
        n_done = self.n_done
        if start < n_done <= stop or start == stop:  # no cell behind them
            self.remove_and_forget(start, stop)
            return
        if stop < n_done:
            close_gap = remove_cells(self.cells, graph, start, stop, n_done)
            self.n_done, self.last = 0, None
            try:
                close_gap()
            except BaseException:
                self.cut_cells(start)
                raise
            self.n_done = n_done - (stop - start)
        self._remove_ids(start, stop)

    def remove_and_forget(self, start: int, stop: int) -> None:
        """Drop tokens from the middle, and the cells of all from there on."""
        if start < self.n_done and start < stop:
            self.cut_cells(start)
        self._remove_ids(start, stop)

    def _remove_ids(self, start: int, stop: int) -> None:
        self.last = self.last if start == stop else None
        del self.ids[start:stop]
        self.lineage = self.lineage and self.lineage.cut(start)

    def adopt(self, others: "Iterable[Contents]") -> None:
        """Take the cells of another that remembers more of the same tokens, if there is one."""
        best, most = None, self.n_done
        for other in others:
            n_found = other.remembered(self.ids) if other.source == self.source else 0
            if self.cells.graph and other.cells.graph is self.cells.graph and n_found > most:
                best, most = other, n_found
        if best is not None:
            cells, before = best.cells.fork(), self.cells
            self.cells, self.n_done = cells, cells.truncate(most)
            before.release()

    def remembered(self, ids: Sequence[int]) -> int:
        """Return of how many first tokens of `ids` it has cells to go on from."""
        return self.cells.reach(min(common_prefix(self.ids, ids), self.n_done))

    def cut_cells(self, n_tokens: int) -> None:
        """Keep the cells of the first tokens, as far as the caches can."""
        self.n_done = 0  # an interrupt here costs time, not correctness
        self.last = None
        self.n_done = self.cells.truncate(n_tokens)
        if self.lineage:
            self.lineage = self.lineage.cut_cells(self.n_done)
