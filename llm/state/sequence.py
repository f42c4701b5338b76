"""A stream of tokens with its cells in the caches: append, cut, fork, keep, save, go on."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from jitllm.llm.state.counters import counted
from jitllm.llm.state.engine import Floats
from jitllm.llm.state.kept import KeptSequence
from jitllm.llm.state.views import CacheViews

if TYPE_CHECKING:
    from jitllm.llm.generate import GenerationStream
    from jitllm.llm.results import Generation
    from jitllm.llm.sampling import SamplerChain, SamplingParams

_log = logging.getLogger("jitllm.state")

Text = str | Iterable[int]


class Sequence(KeptSequence):
    """Tokens of one text and what the model remembers of them. `Model.sequence` makes one.

    After an interrupt the sequence holds whole tokens only, and can be used further.

    Parameters
    ----------
    model : Model
    contents : Contents, optional
        To start with; they belong to this sequence then.
    """

    def __repr__(self) -> str:
        if self._closed:
            return "<Sequence: closed>"
        return f"<Sequence: {len(self)} of {self.n_ctx} tokens, {self.nbytes} bytes>"

    def _repr_html_(self) -> str:
        from jitllm.llm.display import sequence_html

        return sequence_html(self)

    @property
    def token_ids(self) -> list[int]:
        """All tokens, as a new list."""
        return list(self._now.ids)

    @property
    def source_ids(self) -> list[int]:
        """Tokens that the model's encoder read for this sequence, as a new list."""
        return list(self._now.source)

    @property
    def text(self) -> str:
        """All tokens as text."""
        return self.model.detokenize(self._now.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of cache that are held; pages shared with forks count in each of them."""
        return self._now.cells.nbytes

    @property
    def n_pending(self) -> int:
        """Tokens whose cells are computed at the next use."""
        return len(self) - self._now.n_done

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
        before = len(self)
        try:
            for _ in self.extend(self._to_ids(tokens)):
                pass
        finally:
            if self._now.continuation:
                self._now.continuation.accept(self._now.ids[before:])
        return self

    def encode(self, text: Text) -> "Sequence":
        """Let the encoder of a model with encoder and decoder read a text.

        What the sequence held before is dropped; it then has the token that decoders start with,
        and what is appended and generated is the decoder's. Forks share what the encoder left.

        Returns
        -------
        Sequence
            This one.

        Raises
        ------
        UnsupportedArchitecture
            If the model has no encoder beside its decoder.
        ContextLengthExceeded
            If the text does not fit; nothing is changed.
        """
        self.read_source(self.model.to_ids(text))
        self.push(self.model.need_decoder_start())
        return self

    def truncate(self, n_tokens: int) -> "Sequence":
        """Keep the first `n_tokens` tokens; a negative number counts from the end.

        All that follows is as if the sequence had never been longer. Where a sliding window has
        already lost what the shorter sequence needs, or no recurrent state of that length was kept,
        tokens are computed again at the next use: `n_pending` says how many.

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
            self._now.cut(n_tokens)
            self._now.adopt(moment.contents for moment in self.history)
        return self

    def remove(self, start: int, stop: int, *, recompute: bool = False) -> "Sequence":
        """Drop the tokens start to stop - 1; those behind them move up to `start`.

        Their cells are kept: keys are turned to the new positions, as llama.cpp does to shift a
        context. That costs little, but it is not the text without the removed tokens: what follows
        them was computed with them in view. To get that, let it be computed again.

        Parameters
        ----------
        start, stop : int
            As in a slice; negative ones count from the end.
        recompute : bool
            Drop the cells of all that follows, for exactly what a text without these tokens gives.
            `n_pending` then says how many tokens are computed at the next use: those behind
            `start`, or behind the nearest state or checkpoint before it.

        Returns
        -------
        Sequence
            This one. A generation under way can go on: its samplers know the removed tokens still.

        Raises
        ------
        ValueError
            If there are no such tokens.
        StateError
            If what follows cannot move: there are recurrent states, learned embeddings of
            positions, or a sliding window has lost cells that would be seen again. Nothing changes.
        BackendError
            If the caches have no page free. Nothing changes.
        """
        self._check_open()
        n_tokens = len(self)
        start, stop = (place + n_tokens if place < 0 else place for place in (start, stop))
        if not 0 <= start <= stop <= n_tokens:
            raise ValueError(f"expected places from 0 to {n_tokens}, in order; got {start}, {stop}")
        with counted("remove"), self._engine.turn():
            if recompute:
                self._now.remove_and_forget(start, stop)
                self._now.adopt(moment.contents for moment in self.history)
            else:
                self._now.remove(start, stop, self._engine.graph)
        _log.info("removed tokens %d to %d: %d of %d are computed again",
                  start, stop - 1, self.n_pending, len(self))  # fmt: skip
        return self

    def fork(self) -> "Sequence":
        """Return an independent sequence with the same tokens, which shares memory until written.

        Only the page that is written to is copied.
        """
        self._check_open()
        return Sequence(self.model, self._now.fork())

    @property
    def kv(self) -> CacheViews:
        """Keys and values by block: `kv[5].k` is an array that can be read and assigned to.

        Logits are computed again after a change, and with them the last token's own cells. The
        views are of the sequence as it is; after `rollback` get them anew.
        """
        self._check_open()
        return CacheViews(self._engine.graph, self._now)

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

    @overload
    def resume(
        self,
        *,
        max_tokens: int | None = None,
        stream: Literal[False] = False,
        sampler: "SamplerChain | None" = None,
        logits_processors: Any = (),
    ) -> "Generation": ...

    @overload
    def resume(
        self,
        *,
        max_tokens: int | None = None,
        stream: Literal[True],
        sampler: "SamplerChain | None" = None,
        logits_processors: Any = (),
    ) -> "GenerationStream": ...

    def resume(
        self,
        *,
        max_tokens: int | None = None,
        stream: bool = False,
        sampler: "SamplerChain | None" = None,
        logits_processors: Any = (),
    ) -> "Generation | GenerationStream":
        """Go on with the last generation: the same parameters, the samplers where they were.

        The tokens are those that it would have chosen, also in a fork, after a rollback, or in
        another process after `Model.load_sequence`.

        Parameters
        ----------
        max_tokens : int, optional
            New tokens; by default until the text or the context ends.
        stream : bool
        sampler : SamplerChain, optional
            The one that was given to `generate`, after loading from a file: it has its parameters,
            the file its state.
        logits_processors : callables
            Those given to `generate`, again.

        Raises
        ------
        ValueError
            If there is no generation to go on with, or a part of it that no file can hold is
            missing.
        """
        from jitllm.llm.generate import GenerationStream, Prompt
        from jitllm.llm.request import Request

        self._check_open()
        if self._now.continuation is None:
            raise ValueError(
                "expected a generation to go on with, got none: call generate; truncating ends one"
            )
        params, chain = self._now.continuation.ready(sampler, logits_processors)
        request = Request.going_on(params, chain, logits_processors, max_tokens)
        started = GenerationStream(self.model, Prompt.of(self), request)
        return started if stream else started.finish()

    def _to_ids(self, tokens: Text) -> list[int]:
        tokenizer = self.model.tokenizer
        bos = None if tokenizer is None else tokenizer.bos_id
        at_start = self._now.ids in ([], [bos])
        return self.model.to_ids(tokens, add_special=not self._now.ids, at_start=at_start)
