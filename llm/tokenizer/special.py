"""Ids with a meaning: beginning and end of text, end of turn, fill in the middle."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.base import Rules
from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, Vocabulary

_logger = logging.getLogger("jitllm.tokenizer")

_KEYS = {
    "bos": ("bos_token_id",),
    "eos": ("eos_token_id",),
    "eot": ("eot_token_id",),
    "eom": ("eom_token_id",),
    "unk": ("unknown_token_id",),
    "sep": ("seperator_token_id",),  # spelled so in the files
    "pad": ("padding_token_id",),
    "mask": ("mask_token_id",),
    "fim_pre": ("fim_pre_token_id", "prefix_token_id"),  # the second is the old name
    "fim_suf": ("fim_suf_token_id", "suffix_token_id"),
    "fim_mid": ("fim_mid_token_id", "middle_token_id"),
    "fim_pad": ("fim_pad_token_id",),
    "fim_rep": ("fim_rep_token_id",),
    "fim_sep": ("fim_sep_token_id",),
}

# Files often name too few ids: these texts are known to mean the same in every vocabulary.
_KNOWN_TEXTS = {
    "eot": (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
    ),
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}

_END_TEXTS = (
    *_KNOWN_TEXTS["eot"],
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
)
_RENDERED_TEXTS = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens with a meaning, None where the vocabulary has none.

    Attributes
    ----------
    bos, eos, eot, eom : int or None
        Beginning of text, end of text, end of turn, end of message.
    unk, sep, pad, mask : int or None
    fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep : int or None
        Fill in the middle: prefix, suffix, middle, padding, repository, file separator.
    eog : frozenset of int
        All ids that end a generation.
    suppress : tuple of int
        Ids that must never be sampled.
    """

    bos: int | None = None
    eos: int | None = None
    eot: int | None = None
    eom: int | None = None
    unk: int | None = None
    sep: int | None = None
    pad: int | None = None
    mask: int | None = None
    fim_pre: int | None = None
    fim_suf: int | None = None
    fim_mid: int | None = None
    fim_pad: int | None = None
    fim_rep: int | None = None
    fim_sep: int | None = None
    eog: frozenset[int] = frozenset()
    suppress: tuple[int, ...] = ()


def find_special_tokens(vocabulary: Vocabulary, metadata: Metadata, rules: Rules) -> SpecialTokens:
    """Find the tokens with a meaning: by key, by the defaults of the kind, by known texts.

    Corrects types in `vocabulary.types` on the way: an end token that the file calls normal
    becomes a control token.
    """
    found = {name: _by_key(name, vocabulary, metadata, rules) for name in _KEYS}
    for name, texts in _KNOWN_TEXTS.items():
        if found[name] is None:
            found[name] = token = next((i for i in _present(vocabulary, texts)), None)
            if token is not None:
                vocabulary.types[token] = TokenType.CONTROL
    eog = _end_ids(vocabulary, found)
    return SpecialTokens(**found, eog=eog, suppress=_suppressed(vocabulary, metadata))


def _by_key(name: str, vocabulary: Vocabulary, metadata: Metadata, rules: Rules) -> int | None:
    token: int | None = getattr(rules, name, None)
    if token is not None and token >= len(vocabulary):
        token = None
    for key in _KEYS[name]:
        value = metadata.get(f"tokenizer.ggml.{key}")
        if value is None:
            continue
        if isinstance(value, int | np.integer) and 0 <= value < len(vocabulary):
            token = int(value)
        else:
            _logger.warning(
                "tokenizer.ggml.%s: expected an id below %d, got %r; using %s",
                key, len(vocabulary), value, token,
            )  # fmt: skip
    return token


def _present(vocabulary: Vocabulary, texts: Iterable[str]) -> list[int]:
    return [vocabulary.ids[text] for text in texts if text in vocabulary.ids]


def _end_ids(vocabulary: Vocabulary, found: dict[str, int | None]) -> frozenset[int]:
    ids, types = vocabulary.ids, vocabulary.types
    by_text = _present(vocabulary, _END_TEXTS)
    types[by_text] = TokenType.CONTROL
    types[_present(vocabulary, _RENDERED_TEXTS)] = TokenType.USER_DEFINED
    names = ("fim_pad", "fim_rep", "fim_sep", "eos", "eot", "eom")
    eog = {*by_text, *(token for name in names if (token := found[name]) is not None)}

    def ends(text: str) -> bool:
        return ids.get(text) in eog

    calls = ends("<|call|>") or ends("<|calls|>")
    if ends("<|end|>") and calls and (ends("<|return|>") or ends("<|flush|>")):
        # gpt-oss and Solar: here <|end|> ends a message inside a turn
        eog.discard(ids["<|end|>"])
        types[ids["<|end|>"]] = TokenType.USER_DEFINED
    if ends("</s>") and (ends("<|tool_response>") or ends("<|plamo:eos|>")):
        # Gemma 4 and PLaMo: here </s> is the HTML tag
        eog.discard(ids["</s>"])
        types[ids["</s>"]] = TokenType.NORMAL
    return frozenset(eog)


def _suppressed(vocabulary: Vocabulary, metadata: Metadata) -> tuple[int, ...]:
    key = "tokenizer.ggml.suppress_tokens"
    values = np.asarray(metadata.get(key, ()))
    if values.size and (values.ndim != 1 or values.dtype.kind not in "iu"):
        raise ModelFormatError(f"{key}: expected an array of ids, got {values.dtype}")
    return tuple(int(i) for i in values.tolist() if 0 <= i < len(vocabulary))
