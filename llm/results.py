"""What a generation gives back."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled"]
_SHOWN, _SHOWN_END = 80, 20  # characters of a text, and of its end, in a printed form


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """The sum."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went; time that the reader of a stream took is not counted.

    Attributes
    ----------
    prompt_tokens : int
        Tokens of the prompt that were computed.
    prompt_s : float
        Seconds they took: until logits for the first token were there.
    tokens : int
        Tokens generated.
    generation_s : float
        Seconds from there on.
    decode_tokens : int
        Tokens whose cells were computed in `generation_s`, one at a time.
    reused_tokens : int
        Tokens of the prompt that `Model.prefix_cache` had.
    """

    prompt_tokens: int
    prompt_s: float
    tokens: int
    generation_s: float
    decode_tokens: int
    reused_tokens: int = 0

    @property
    def prompt_tokens_per_s(self) -> float:
        """Tokens of the prompt per second."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens computed one at a time per second, sampling included."""
        return self.decode_tokens / self.generation_s if self.generation_s else 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How probable a token was under the model's own logits, before any sampler.

    Attributes
    ----------
    token_id : int
    token : str
        Its text; bytes that are no character stand as U+FFFD.
    logprob : float or None
        None for the first token of a prompt.
    top : tuple of (id, text, logprob)
        The most probable tokens, in descending order.
    """

    token_id: int
    token: str
    logprob: float | None
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A step of a stream.

    Attributes
    ----------
    text : str
        What can be shown now: never half a character, never the beginning of a stop string.
    token_id : int or None
        None in a last chunk that only ends the stream.
    finish_reason : str or None
        Set in the last chunk.
    logprob : TokenLogprob or None
        If asked for.
    """

    text: str
    token_id: int | None
    finish_reason: FinishReason | None = None
    logprob: TokenLogprob | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Generation:
    """A finished generation; `str` of it is its text. It can be pickled and copied.

    Attributes
    ----------
    text : str
        Without control tokens, and cut before a stop string.
    token_ids : list of int
        What was generated; with the token that completed a stop string, without the token that
        ended the text.
    finish_reason : str
        "stop", "length" (max_tokens reached or context full) or "cancelled".
    prompt_token_ids : list of int
    usage : Usage
    timings : Timings
    logprobs, prompt_logprobs : list of TokenLogprob, or None if not asked for
    reasoning : str or None
        Of a chat: what stands between <think> and </think>.
    content : str or None
        Of a chat: the text without it.
    pieces : list of str
        Text of each generated token alone.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_token_ids: list[int]
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    pieces: list[str] = field(default_factory=list)
    reasoning: str | None = None
    content: str | None = None
    make_provenance: Callable[[], dict[str, Any]] = field(default=dict, compare=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        n_tokens = self.usage.completion_tokens
        return f"<Generation: {shorten(self.text)}, {n_tokens} tokens, {self.finish_reason}>"

    @property
    def message(self) -> dict[str, Any]:
        """The answer as an OpenAI-shaped message; `reasoning_content` only where there is any."""
        content = self.text if self.content is None else self.content
        message = {"role": "assistant", "content": content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        return message

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What is needed to get the same tokens again; plain data.

        The digest of the model file is computed at the first use, which reads the file: use it
        once before the result is pickled for another machine.
        """
        return self.make_provenance()

    def to_frame(self) -> Any:
        """Return a row per generated token: token, id, and with logprobs=N their values.

        Returns
        -------
        pandas.DataFrame, or list of dict where pandas is not installed
        """
        rows = [_row(entry) for entry in self.logprobs or ()]
        if self.logprobs is None:
            pairs = zip(self.pieces, self.token_ids, strict=True)
            rows = [{"token": piece, "id": token} for piece, token in pairs]
        if importlib.util.find_spec("pandas") is None:
            return rows
        return importlib.import_module("pandas").DataFrame(rows)

    def _repr_html_(self) -> str:
        from jitllm.llm.display import generation_html

        return generation_html(self)


def _row(entry: TokenLogprob) -> Mapping[str, Any]:
    top = [(text, logprob) for _, text, logprob in entry.top]
    return {"token": entry.token, "id": entry.token_id, "logprob": entry.logprob, "top": top}


def shorten(text: str) -> str:
    """Return a text as Python writes it, its middle left out if it is long."""
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - _SHOWN_END]} ... {text[-_SHOWN_END:]}"
    return repr(text)


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Split the text of an answer at its <think> part.

    Parameters
    ----------
    text : str
    opened : bool
        The prompt has opened it already.

    Returns
    -------
    reasoning, content
        (None, text) where there is no such part; an unfinished one leaves no content.
    """
    start = text.lstrip()
    if start.startswith("<think>"):
        start = start.removeprefix("<think>")
    elif not opened:
        return None, text
    reasoning, _, content = start.partition("</think>")
    return reasoning.strip(), content.lstrip()
