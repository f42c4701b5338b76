"""A stream of tokens with its cells in the caches: append, cut, fork, go on."""

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

import numpy as np
import numpy.typing as npt

from jitllm.llm.errors import ClosedError, ContextLengthExceeded
from jitllm.llm.state.engine import Cancel, Cancelled, Engine, Floats, Hooks

if TYPE_CHECKING:
    from jitllm.llm.generate import GenerationStream
    from jitllm.llm.model import Model
    from jitllm.llm.results import Generation
    from jitllm.llm.sampling import SamplingParams

Rows = npt.NDArray[np.intp]
Text = str | Iterable[int]
_NO_ROWS: Rows = np.empty(0, np.intp)


class Sequence:
    """Tokens of one text and what the model remembers of them. `Model.sequence` makes one.

    After an interrupt the sequence holds whole tokens only, and can be used further.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: "Model") -> None:
        self.model = model
        self._engine: Engine = model.engine
        self._cells = self._engine.new_cells()
        self._ids: list[int] = []
        self._n_done = 0  # tokens whose cells are written
        self._last: tuple[int, Floats] | None = None  # logits behind so many tokens
        self._closed = False
        self._finalizer = weakref.finalize(self, self._cells.release)

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        if self._closed:
            return "<Sequence: closed>"
        return f"<Sequence: {len(self)} of {self.n_ctx} tokens, {self.nbytes} bytes>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sequence can be neither copied nor pickled: fork() it, or keep its ids")

    def _repr_html_(self) -> str:
        from jitllm.llm.display import sequence_html

        return sequence_html(self)

    @property
    def n_ctx(self) -> int:
        """Most tokens."""
        return self._engine.n_ctx

    @property
    def token_ids(self) -> list[int]:
        """All tokens, as a new list."""
        return list(self._ids)

    @property
    def text(self) -> str:
        """All tokens as text."""
        return self.model.detokenize(self._ids)

    @property
    def nbytes(self) -> int:
        """Bytes of cache that are held; pages shared with forks count in each of them."""
        return self._cells.nbytes

    @property
    def logits(self) -> Floats:
        """Logits for the next token, float32 [V], as a new array.

        Raises
        ------
        ValueError
            If the sequence has no tokens.
        """
        return self.compute_logits().copy()

    def append(self, tokens: Text) -> "Sequence":
        """Add tokens, or a text, to the end; returns the sequence.

        A text gets the token of beginning, if the model wants one, only when the sequence is
        empty; later ones go on exactly where the sequence ends, without a space that the model
        would put before a text. When this is interrupted or fails, the sequence keeps the tokens
        that were computed.

        Raises
        ------
        ContextLengthExceeded
            If they do not fit; nothing is added.
        """
        for _ in self.extend(self._to_ids(tokens)):
            pass
        return self

    def truncate(self, n_tokens: int) -> "Sequence":
        """Keep the first `n_tokens` tokens; a negative number counts from the end.

        All that follows is as if the sequence had never been longer. Where a sliding window has
        already lost what the shorter sequence needs, its tokens are computed again at the next use.

        Returns
        -------
        Sequence
            This one.
        """
        self._check_open()
        n_tokens = max(0, n_tokens + len(self)) if n_tokens < 0 else n_tokens
        if n_tokens > len(self):
            raise ValueError(f"expected at most {len(self)} tokens to keep, got {n_tokens}")
        if n_tokens < len(self):
            del self._ids[n_tokens:]
            self._cut_cells(min(self._n_done, n_tokens))
        return self

    def fork(self) -> "Sequence":
        """Return an independent sequence with the same tokens, which shares memory until written.

        Only the page that is written to is copied.
        """
        self._check_open()
        twin = Sequence(self.model)
        twin._finalizer.detach()
        twin._cells = self._cells.fork()
        twin._finalizer = weakref.finalize(twin, twin._cells.release)
        twin._ids, twin._n_done, twin._last = list(self._ids), self._n_done, self._last
        return twin

    @overload
    def generate(
        self,
        params: "SamplingParams | None" = None,
        *,
        stream: Literal[False] = False,
        **sampling: Any,
    ) -> "Generation": ...

    @overload
    def generate(
        self, params: "SamplingParams | None" = None, *, stream: Literal[True], **sampling: Any
    ) -> "GenerationStream": ...

    def generate(
        self, params: "SamplingParams | None" = None, *, stream: bool = False, **sampling: Any
    ) -> "Generation | GenerationStream":
        """Go on where the sequence ends; what is generated is appended to it.

        The token that ends the generation is not appended. The arguments are those of
        `Model.generate`; `n` must be 1.
        """
        from jitllm.llm.generate import GenerationStream, Prompt
        from jitllm.llm.request import Request

        self._check_open()
        request = Request.build(self.model, params, **sampling)
        if request.params.n != 1:
            raise ValueError(f"expected n=1, got n={request.params.n}; fork the sequence instead")
        started = GenerationStream(self.model, Prompt.of(self), request)
        return started if stream else started.finish()

    def close(self) -> None:
        """Give the memory back; later use raises ClosedError. Closing twice is allowed."""
        self._closed = True
        self._last = None
        self._finalizer()

    def __enter__(self) -> "Sequence":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, token: int) -> None:
        """Add one token whose cells are written at the next need.

        Raises
        ------
        ContextLengthExceeded
        """
        self._check_room(1)
        self._ids.append(token)

    def compute_logits(self, cancelled: Cancel | None = None) -> Floats:
        """Return the logits behind the last token, float32 [V], which must not be changed."""
        self._check_open()
        if not self._ids:
            raise ValueError("expected a sequence with tokens, got an empty one; append some")
        if self._last is None or self._last[0] != len(self._ids):
            if self._n_done == len(self._ids):
                self._cut_cells(len(self._ids) - 1)  # its logits were not kept: once more
            rows = np.array([len(self._ids) - self._n_done - 1])
            for _ in self._catch_up(rows, (), cancelled):
                pass
        assert self._last is not None
        return self._last[1]

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
        self._ids.extend(tokens)
        rows = np.array([len(tokens) - 1]) if rows is None else rows
        try:
            yield from self._catch_up(rows, hooks, cancelled)
        finally:
            del self._ids[self._n_done :]

    def _catch_up(
        self, rows: Rows, hooks: Iterable[Hooks], cancelled: Cancel | None
    ) -> Iterator[Floats]:
        """Write the cells of all tokens that have none; `rows` count from the first of these."""
        start, tokens = self._n_done, self._ids[self._n_done :]
        if cancelled and cancelled():
            raise Cancelled
        for n_run, logits in self._engine.run(self._cells, tokens, start, rows, [*hooks]):
            if len(rows) and rows[-1] == n_run - 1:
                self._last = start + n_run, logits[-1].copy()
            self._n_done = start + n_run
            yield logits
            if n_run < len(tokens) and cancelled and cancelled():
                raise Cancelled

    def _cut_cells(self, n_tokens: int) -> None:
        self._n_done = 0  # an interrupt here costs time, not correctness
        self._last = None
        self._n_done = self._cells.truncate(n_tokens)

    def _to_ids(self, tokens: Text) -> list[int]:
        tokenizer = self.model.tokenizer
        bos = None if tokenizer is None else tokenizer.bos_id
        at_start = self._ids in ([], [bos])
        return self.model.to_ids(tokens, add_special=not self._ids, at_start=at_start)

    def _check_room(self, n_tokens: int) -> None:
        self._check_open()
        if len(self) + n_tokens > self.n_ctx:
            raise ContextLengthExceeded(
                f"expected at most {self.n_ctx} tokens in the context, got {len(self)} + "
                f"{n_tokens}; load the model with a larger n_ctx, or give fewer tokens"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the sequence was closed; make another with Model.sequence")
        self._engine.check_open()
