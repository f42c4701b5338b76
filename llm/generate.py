"""The loop from logits to text: one step per token, as a stream or at once."""

import dataclasses
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jitllm.llm.context_shift import settled, shift
from jitllm.llm.identity import Provenance
from jitllm.llm.request import Request
from jitllm.llm.results import (
    Chunk,
    FinishReason,
    Generation,
    Timings,
    TokenLogprob,
    Usage,
    shorten,
    split_reasoning,
)
from jitllm.llm.sampling import top_logprobs
from jitllm.llm.state.contents import Contents
from jitllm.llm.state.engine import Cancel, Cancelled
from jitllm.llm.state.logits import Need
from jitllm.llm.state.sequence import Sequence as TokenSequence
from jitllm.llm.stops import StopStrings

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Floats = npt.NDArray[np.float32]


@dataclass
class Prompt:
    """A sequence to start from, computed when first needed.

    Attributes
    ----------
    sequence : Sequence
    ids : list of int
        Tokens to append first.
    uses : int
        How many generations start here; all but the last take a fork.
    owned : bool
        The generation closes the sequence.
    logprobs : list of TokenLogprob or None
        Of the prompt, if the first generation asked for them.
    n_computed : int
        Tokens computed for the next generation.
    n_reused : int
        Tokens that an earlier prompt left.
    """

    sequence: TokenSequence
    ids: list[int]
    uses: int = 1
    owned: bool = True
    logprobs: list[TokenLogprob] | None = None
    n_computed: int = 0
    n_reused: int = 0

    @classmethod
    def begin(cls, model: "Model", ids: list[int], request: Request) -> "Prompt":
        """Return a prompt of its own, from where an earlier one that begins like it ends.

        With hooks, or where all its logits are wanted, it is computed as a whole.
        """
        is_whole = model.has_encoder or request.params.prompt_logprobs is not None
        found = None if is_whole or model.engine.hooks else model.prefix_cache.find(ids)
        sequence = TokenSequence(model, found) if found else model.sequence()
        n_reused = len(sequence)
        return cls(sequence, ids[n_reused:], request.params.n, n_reused=n_reused)

    @classmethod
    def of(cls, sequence: TokenSequence) -> "Prompt":
        """Return a prompt that is all of a sequence, which goes on to grow."""
        return cls(sequence, [], owned=False)

    def push(self) -> None:
        """Leave the prompt's tokens to the next run that needs their logits."""
        for token in self.ids:
            self.sequence.push(token)
        self.n_computed, self.ids = len(self.ids), []

    def start(self, n_top: int | None, cancelled: Cancel) -> TokenSequence:
        """Compute the prompt if that is not done, and return a sequence that may grow."""
        if self.ids:
            self._compute(n_top, cancelled)
        self.uses -= 1
        return self.sequence if self.uses < 1 else self.sequence.fork()

    def _compute(self, n_top: int | None, cancelled: Cancel) -> None:
        ids, model = self.ids, self.sequence.model
        if model.has_encoder:
            self._encode(n_top, cancelled)
            return
        rows = None if n_top is None else np.arange(len(ids))
        entries = [TokenLogprob(ids[0], model.token_text(ids[0]), None)]
        for logits in self.sequence.extend(ids, rows, cancelled=cancelled):
            if n_top is None:
                continue
            following = ids[len(entries) : len(entries) + len(logits)]
            entries += score(model, logits[: len(following)], following, n_top)
        self.logprobs = None if n_top is None else entries
        self.n_computed, self.ids = len(ids), []

    def _encode(self, n_top: int | None, cancelled: Cancel) -> None:
        """Give the prompt to the encoder."""
        if n_top is not None:
            raise ValueError("expected no prompt_logprobs: the encoder reads the prompt as a whole")
        if cancelled():
            raise Cancelled
        self.sequence.encode(self.ids)
        self.n_computed, self.ids = len(self.ids), []


def score(model: "Model", logits: Floats, ids: Sequence[int], n_top: int) -> list[TokenLogprob]:
    """Return how probable tokens were.

    Parameters
    ----------
    model : Model
    logits : float32 [T, V]
    ids : sequence of int, T
    n_top : int
        Alternatives to list.
    """
    chosen, top_ids, top = top_logprobs(logits, np.asarray(ids, np.int32), n_top)
    text = model.token_text
    return [
        TokenLogprob(
            token,
            text(token),
            float(value),
            tuple((int(i), text(int(i)), float(x)) for i, x in zip(best, values, strict=True)),
        )
        for token, value, best, values in zip(ids, chosen, top_ids, top, strict=True)
    ]


@dataclass
class _Output:
    """What was generated so far."""

    text: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)  # the model may be closed before the result
    logprobs: list[TokenLogprob] = field(default_factory=list)


class GenerationStream(Iterator[Chunk]):
    """A generation under way: iterate over its chunks, or `finish` it.

    The texts of all chunks joined are the text of `result`. Closed without the end (also by an
    interrupt, or by `cancel` from another thread), its result has finish_reason "cancelled".

    Parameters
    ----------
    model : Model
    prompt : Prompt
    request : Request
    index : int
        Of this result among several with one seed.
    """

    def __init__(self, model: "Model", prompt: Prompt, request: Request, index: int = 0) -> None:
        self.model, self.request = model, request
        self.seed = request.seed_for(index) if request.sampler is None else request.sampler.seed
        self._prompt = prompt
        self._prompt_ids = [*prompt.sequence.token_ids, *prompt.ids]
        self.chain = request.chain(model, self.seed)
        self._output = _Output()
        self._sequence: TokenSequence | None = None
        self._n_computed, self._prompt_s, self._seconds, self._waited = 0, 0.0, 0.0, 0.0
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._runner: int | None = None  # the thread inside a step
        self._result: Generation | None = None
        is_start = model.has_encoder and len(prompt.sequence) < 2
        self._decoder = model.text_stream(at_start=is_start)
        self._stops = StopStrings(request.params.stop)
        self._steps = self._generate()

    def __iter__(self) -> "GenerationStream":
        return self

    def __repr__(self) -> str:
        output, result = self._output, self._result
        state = "open" if result is None else result.finish_reason
        text = shorten("".join(output.text))
        return f"<GenerationStream: {text}, {len(output.ids)} tokens, {state}>"

    def __next__(self) -> Chunk:
        with self._lock:
            if self._result is not None:
                raise StopIteration
            started = time.perf_counter()
            self._runner = threading.get_ident()
            try:
                chunk = next(self._steps)
            except BaseException:
                self._end("cancelled")
                raise
            finally:
                self._runner = None
            self._seconds += time.perf_counter() - started
            if chunk.finish_reason is not None:
                self._end(chunk.finish_reason)
            elif self._cancelled.is_set():
                self._end("cancelled")
            return chunk

    @property
    def has_ended(self) -> bool:
        """Whether the result is there."""
        return self._result is not None

    def needed(self) -> list[Contents]:
        """Return the sequence whose logits the next step needs, if it needs any.

        Computing them before, with those of others, takes that time out of the step.
        """
        if self._sequence is None:
            return [] if self._prompt.ids else [self._prompt.sequence.contents]
        goes_on = not self.has_ended and self._goes_on(self._sequence)
        return [self._sequence.contents] if goes_on else []

    @property
    def need(self) -> Need:
        """What the next step needs of the logits."""
        return Need() if self.request.params.logprobs is not None else Need.of(self.chain)

    def waited(self, seconds: float) -> None:
        """Count time in which what it needs was computed."""
        self._seconds += seconds
        if self._sequence is None:
            self._waited += seconds

    @property
    def result(self) -> Generation:
        """What was generated; before the end this is an error.

        Raises
        ------
        RuntimeError
            If the stream has not ended and was not closed.
        """
        if self._result is None:
            raise RuntimeError("expected a finished stream; read it to its end, or close it")
        return self._result

    def finish(self) -> Generation:
        """Generate to the end and return the result."""
        try:
            for _ in self:
                pass
        except BaseException:
            self.close()
            raise
        return self.result

    def cancel(self) -> None:
        """End soon with finish_reason "cancelled"; may be called from any thread."""
        self._cancelled.set()
        if self._lock.acquire(blocking=False):  # else the step under way ends the generation
            try:
                self._end_if_open()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End now; the result then is what was generated so far. Closing twice is allowed.

        Called from inside a step, as by a signal handler, it ends behind that step.
        """
        self._cancelled.set()
        if self._runner == threading.get_ident():
            return
        with self._lock:
            self._end_if_open()

    def show(self) -> None:
        """Show the text while it is generated; `result` is there afterwards.

        An interrupt ends the generation: the result then has finish_reason "cancelled". Nothing is
        returned, so that a notebook does not show the text twice.
        """
        from jitllm.llm.display import LiveText

        with LiveText() as live:
            try:
                for chunk in self:
                    live.put(chunk.text)
            except KeyboardInterrupt:
                self.close()

    def __enter__(self) -> "GenerationStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _generate(self) -> Generator[Chunk, None, None]:
        try:
            reason = yield from self._tokens()
        except Cancelled:
            reason = "cancelled"
        tail = self._stops.put(self._decoder.flush()) + self._stops.flush()
        self._output.text.append(tail)
        yield Chunk(tail, None, reason)

    def _tokens(self) -> Generator[Chunk, None, FinishReason]:
        params, sequence = self.request.params, self._start()
        ends = {*self.model.eog_ids, *params.stop_token_ids}
        while self._goes_on(sequence):
            token = sequence.compute_last(self.need).sample(self.chain)
            if token in ends:
                return "stop"
            yield self._keep(sequence, token)
            if self._stops.found is not None:
                return "stop"
        return "length"

    def _start(self) -> TokenSequence:
        started = time.perf_counter()
        is_set, params = self._cancelled.is_set, self.request.params
        sequence = self._sequence = self._prompt.start(params.prompt_logprobs, is_set)
        self.request = dataclasses.replace(self.request, params=settled(sequence, params))
        if self._goes_on(sequence):
            sequence.compute_last(self.need, is_set)
        if not self.request.goes_on:
            self.chain.accept_many(sequence.token_ids)
        sequence.generation_began(self.request.params, self.chain, self.request.lacks())
        self._n_computed, self._prompt.n_computed = self._prompt.n_computed, 0
        self._remember(sequence)
        self._prompt_s = self._waited + time.perf_counter() - started
        return sequence

    def _remember(self, sequence: TokenSequence) -> None:
        """Leave what was computed to later prompts."""
        if self._prompt.owned and not self.model.has_encoder:
            self.model.prefix_cache.keep(sequence.contents)

    def _goes_on(self, sequence: TokenSequence) -> bool:
        """Whether a token follows; where the context is full, old ones make room if they may."""
        params = self.request.params
        if params.max_tokens is not None and len(self._output.ids) >= params.max_tokens:
            return False
        if len(sequence) >= sequence.n_ctx and params.context_shift:
            shift(sequence, params)
        return len(sequence) < sequence.n_ctx

    def _keep(self, sequence: TokenSequence, token: int) -> Chunk:
        output, entry, n_top = self._output, None, self.request.params.logprobs
        if n_top is not None:
            entry = score(self.model, sequence.compute_logits()[None], [token], n_top)[0]
            output.logprobs.append(entry)
        self.chain.accept(token)
        sequence.push(token)
        text = self._stops.put(self._decoder.put(token))
        output.ids.append(token)
        output.pieces.append(self.model.token_text(token))
        output.text.append(text)
        return Chunk(text, token, logprob=entry)

    def _end_if_open(self) -> None:
        if self._result is None:
            self._end("cancelled")

    def _end(self, reason: FinishReason) -> None:
        self._steps.close()
        self._result = self.model.last_result = self._make_result(reason)
        if self._prompt.owned and self._sequence is not None:
            if not self.model.engine.closed:
                self._remember(self._sequence)
            self._sequence.close()

    def _make_result(self, reason: FinishReason) -> Generation:
        output, request, prompt = self._output, self.request, self._prompt
        text, ids = "".join(output.text), output.ids
        reasoning, content = None, None
        if request.has_reasoning:
            reasoning, content = split_reasoning(text, opened=request.think_opened)
        n_decoded = max(0, len(ids) - (reason != "stop" or self._stops.found is not None))
        seconds = max(0.0, self._seconds - self._prompt_s)
        timings = Timings(
            self._n_computed, self._prompt_s, len(ids), seconds, n_decoded, prompt.n_reused
        )
        return Generation(
            text,
            list(ids),
            reason,
            self._prompt_ids,
            Usage(len(self._prompt_ids), len(ids)),
            timings,
            output.logprobs if request.params.logprobs is not None else None,
            prompt.logprobs,
            list(output.pieces),
            reasoning,
            content,
            self._provenance(),
        )

    def _provenance(self) -> Callable[[], dict[str, Any]]:
        """Return what makes `Generation.provenance`: it must not keep the model alive."""
        settings = {
            "seed": self.seed,
            "sampler": repr(self.chain),
            "params": {**dataclasses.asdict(self.request.params), "seed": self.seed},
            "logits_processors": len(self.chain.logits_processors),
            **self.model.settings,
        }
        return Provenance(self.model.identity, settings)
