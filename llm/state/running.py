"""What a sequence does with the engine: tokens in, cells written, logits out."""

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn, Self

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import ClosedError, ContextLengthExceeded
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.continuation import Continuation
from jitllm.llm.state.engine import Cancel, Cancelled, Engine, Floats, Hooks
from jitllm.llm.state.history import History
from jitllm.llm.state.logits import Logits, Need
from jitllm.llm.state.together import compute_together
from jitllm.llm.state_files.file import StateFile

if TYPE_CHECKING:
    from jitllm.llm.model import Model
    from jitllm.llm.sampling import SamplerChain, SamplingParams

Rows = npt.NDArray[np.intp]
_NO_ROWS: Rows = np.empty(0, np.intp)


class _Box:
    """What a sequence owns; it outlives the sequence until its memory is given back."""

    def __init__(self, now: Contents) -> None:
        self.now, self.history = now, History()
        self.file: StateFile | None = None  # of the last save, to go on with

    def release(self) -> None:
        self.now.last = None
        self.now.cells.release()
        self.history.close()
        if self.file:
            self.file.close()


class RunningSequence:
    """Tokens and their cells; `Sequence` is what users see.

    Parameters
    ----------
    model : Model
    contents : Contents, optional
        To start with; they belong to this sequence then.
    """

    def __init__(self, model: "Model", contents: Contents | None = None) -> None:
        self.model = model
        self._engine: Engine = model.engine
        self._box = _Box(contents or Contents(self._engine.new_cells()))
        self._closed = False
        self._finalizer = weakref.finalize(self, self._box.release)

    @property
    def _now(self) -> Contents:
        return self._box.now

    def __len__(self) -> int:
        return len(self._now.ids)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sequence can be neither copied nor pickled: fork() it, or save() it")

    @property
    def contents(self) -> Contents:
        """What it holds, to compute with; a rollback puts another in its place."""
        self._check_open()
        return self._now

    @property
    def n_ctx(self) -> int:
        """Most tokens."""
        return self._engine.n_ctx

    def close(self) -> None:
        """Give the memory back; later use raises ClosedError. Closing twice is allowed."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_source(self, ids: list[int], hooks: Iterable[Hooks] = ()) -> None:
        """Run the encoder on a text; the sequence has no tokens then.

        Raises
        ------
        UnsupportedArchitecture, ValueError, ContextLengthExceeded
            If there is no encoder, there are no tokens, or too many.
        """
        self._check_open()
        self.model.need_decoder_start()
        most = self._engine.max_source
        if not 0 < len(ids) <= most:
            error = ContextLengthExceeded if ids else ValueError
            raise error(
                f"expected 1 to {most} tokens for the encoder, got {len(ids)}; a larger n_ctx "
                "makes room for 4096"
            )
        self._now.cut(0)
        self._now.source = []
        self._engine.encode(self._now.cells, ids, _NO_ROWS, [*hooks])
        self._now.source = list(ids)

    def generation_began(
        self, params: "SamplingParams", chain: "SamplerChain", lacks: tuple[str, ...]
    ) -> None:
        """Note how the tokens that follow are chosen, by samplers that accepted those before."""
        before = self._now.continuation
        if before is not None and before.chain is chain:  # resumed: what it lacks is known
            lacks = before.lacks
        self._now.continuation = Continuation(params, chain, lacks)

    def push(self, token: int) -> None:
        """Add one token whose cells are written at the next need.

        Raises
        ------
        ContextLengthExceeded
        """
        self._check_room(1)
        self._now.push(token)

    def compute_logits(self) -> Floats:
        """Return the logits behind the last token, float32 [V], which must not be changed."""
        return self.compute_last().whole()

    def compute_last(self, need: Need | None = None, cancelled: Cancel | None = None) -> Logits:
        """Return the logits behind the last token.

        Parameters
        ----------
        need : Need, optional
            What of them is needed; without, all.
        cancelled : callable, optional
            Asked before every run; if true, Cancelled is raised.
        """
        self._check_open()
        if not self._now.ids:
            raise ValueError("expected a sequence with tokens, got an empty one; append some")
        compute_together(self._engine, [self._now], cancelled, [need or Need()])
        assert self._now.logits is not None
        return self._now.logits

    def extend(
        self,
        tokens: list[int],
        rows: Rows | None = None,
        hooks: Iterable[Hooks] = (),
        cancelled: Cancel | None = None,
    ) -> Iterator[Floats]:
        """Add tokens piece by piece and yield logits [rows of the piece, V].

        Parameters
        ----------
        tokens : list of int
        rows : ints, ascending, optional
            Of `tokens`: those whose logits are wanted; without, the last.
        hooks : iterable of Hooks
        cancelled : callable, optional
            Asked before every piece; if true, Cancelled is raised.

        Yields
        ------
        float32 [R, V]
        """
        self._check_room(len(tokens))
        for _ in self._catch_up(_NO_ROWS, (), cancelled):
            pass
        if not tokens:
            return
        self._now.ids.extend(tokens)
        rows = np.array([len(tokens) - 1]) if rows is None else rows
        try:
            yield from self._catch_up(rows, hooks, cancelled)
        finally:
            self._now.forget_undone()

    def _catch_up(
        self, rows: Rows, hooks: Iterable[Hooks], cancelled: Cancel | None
    ) -> Iterator[Floats]:
        """Write the cells of all tokens that have none; `rows` count from the first of these."""
        start, tokens = self._now.n_done, self._now.ids[self._now.n_done :]
        if cancelled and cancelled():
            raise Cancelled
        for n_run, logits in self._engine.run(self._now.cells, tokens, start, rows, [*hooks]):
            if len(rows) and rows[-1] == n_run - 1:
                self._now.last = start + n_run, Logits(logits[-1].copy())
            self._now.n_done = start + n_run
            yield logits
            if n_run < len(tokens) and cancelled and cancelled():
                raise Cancelled

    def _check_room(self, n_tokens: int) -> None:
        self._check_open()
        if self._engine.max_source and not self._now.source:
            raise ValueError(
                "expected a text for the encoder before tokens of the decoder: give it to "
                "Model.sequence or Sequence.encode"
            )
        if len(self) + n_tokens > self.n_ctx:
            raise ContextLengthExceeded(
                f"expected at most {self.n_ctx} tokens in the context, got {len(self)} + "
                f"{n_tokens}; load the model with a larger n_ctx, or give fewer tokens"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the sequence was closed; make another with Model.sequence")
        self._engine.check_open()
