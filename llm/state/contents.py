"""Everything that a sequence needs to go on."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jitllm.llm.state.cells import Cells
from jitllm.llm.state.file import Lineage

if TYPE_CHECKING:
    from jitllm.llm.state.continuation import Continuation

Floats = npt.NDArray[np.float32]


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
    last : (int, float32 [V]) or None
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
    last: tuple[int, Floats] | None = None
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
    def logits(self) -> Floats | None:
        """Logits behind the last token, if they are known."""
        return self.last[1] if self.last and self.last[0] == len(self.ids) else None

    def need_last(self) -> None:
        """Let the last token be computed again, if its logits were not kept."""
        if self.logits is None and self.n_done == len(self.ids):
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

    def cut_cells(self, n_tokens: int) -> None:
        """Keep the cells of the first tokens, as far as the caches can."""
        self.n_done = 0  # an interrupt here costs time, not correctness
        self.last = None
        self.n_done = self.cells.truncate(n_tokens)
        if self.lineage:
            self.lineage = self.lineage.cut_cells(self.n_done)
