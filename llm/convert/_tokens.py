"""Tokens of a vocabulary in the making, and their kinds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_MOST = 1 << 22
# not marked as special everywhere, and never part of a text
_CONTROLS = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_BRACKETS = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))


@dataclass
class Tokens:
    """Texts, kinds and scores by id."""

    texts: list[str] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, text: str, kind: int, score: float = 0.0) -> None:
        """Append a token."""
        self.texts.append(text)
        self.kinds.append(kind)
        self.scores.append(score)

    def replace(self, i: int, text: str, kind: int, score: float) -> None:
        """Put another token at an id."""
        self.texts[i], self.kinds[i], self.scores[i] = text, kind, score

    def write(self, target: Target, model: str, pre: str, scores: bool) -> None:
        """Put the vocabulary down as one for the tokenizer `model`."""
        target.key("string", "tokenizer.ggml.model", model)
        target.key("string", "tokenizer.ggml.pre", pre)
        target.key("string", "tokenizer.ggml.tokens", self.texts)
        if scores:
            target.key("float32", "tokenizer.ggml.scores", self.scores)
        target.key("int32", "tokenizer.ggml.token_type", self.kinds)


def looks_special(text: str) -> bool:
    """Return whether a token is a control token by its looks."""
    ends = any(text.startswith(first) and text.endswith(last) for first, last in _BRACKETS)
    return text in _CONTROLS or ends


def added_kind(text: str, special: bool) -> tuple[str, int]:
    """Return text and kind of a token that was added to a vocabulary."""
    if special or looks_special(text):
        return text, CONTROL
    return text.replace("▁", " "), USER_DEFINED  # found in the text as it was written


def vocab_size(source: Source, n_tokens: int, or_fewer: bool = False) -> int:
    """Return how many tokens the model has: as config.json says, else as many as are known.

    Parameters
    ----------
    source : Source
    n_tokens : int
        How many the tokenizer knows.
    or_fewer : bool
        Whether the model may have fewer.

    Raises
    ------
    ModelFormatError
        If the model has fewer, or an absurd number.
    """
    if source.config.get("vocab_size") is None:
        return n_tokens
    size = source.config.size("vocab_size")
    if size > _MOST or (n_tokens > size and not or_fewer):
        raise ModelFormatError(
            f"{source.folder}: expected a vocab_size in config.json from {n_tokens}, which is what "
            f"the tokenizer has, to {_MOST}; got {size}"
        )
    return size


def content(token: Any) -> str | None:
    """Return the text of a token in tokenizer_config.json: text, or an object with it."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else None
