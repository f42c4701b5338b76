"""What a kind of tokenizer gives: its rules, ids of a stretch of text, bytes of a token."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError
from jitllm.llm.tokenizer.vocabulary import Metadata, TokenType, Vocabulary

SPACE_MARK = "\u2581"
"""LOWER ONE EIGHTH BLOCK, which stands for a space in SentencePiece vocabularies."""


@dataclass(frozen=True)
class Rules:
    """Ids and habits of a kind of tokenizer where the file does not say otherwise.

    `force_bos` and `force_sep` overrule even the file; so does `framed`: without it nothing is put
    around a text.
    """

    bos: int | None = None
    eos: int | None = None
    unk: int | None = None
    sep: int | None = None
    pad: int | None = None
    mask: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    add_sep: bool = False
    add_space_prefix: bool = False
    clean_spaces: bool = False
    force_bos: bool = False
    force_sep: bool = False
    framed: bool = True


@dataclass(frozen=True)
class Frame:
    """The ids to put around a text, already None where the rules want none."""

    bos: int | None
    eos: int | None
    sep: int | None


class BaseEncoder(ABC):
    """One value of `tokenizer.ggml.model`: the class `Encoder` of the file `model_<value>.py`.

    Parameters
    ----------
    vocabulary : Vocabulary
    metadata : mapping
        Of the GGUF file.

    Attributes
    ----------
    rules : Rules
        Set by the subclass.
    variant : str
        What the kind is split by, such as the name of the pre-tokenizer; may be empty.
    """

    rules: Rules
    variant: str = ""

    def __init__(self, vocabulary: Vocabulary, metadata: Metadata) -> None:
        self.vocabulary = vocabulary
        self.metadata = metadata

    @abstractmethod
    def encode(self, text: str, at_start: bool) -> list[int]:
        """Ids of a text without special tokens.

        Parameters
        ----------
        text : str
            Not empty.
        at_start : bool
            Whether the text is the first, or follows a special token.
        """

    @abstractmethod
    def normal_bytes(self, text: str) -> bytes:
        """The bytes that a token of normal type stands for."""

    def newline_id(self) -> int | None:
        """The first id of a newline, or None when the vocabulary cannot write one."""
        return next(iter(self.encode("\n", False)), None)

    @cached_property
    def unknown_id(self) -> int:
        """The id for what no token can write.

        Raises
        ------
        ModelFormatError
            If there is none: some texts cannot be encoded then.
        """
        token = self.metadata.get("tokenizer.ggml.unknown_token_id", self.rules.unk)
        if isinstance(token, int | np.integer) and 0 <= token < len(self.vocabulary):
            return int(token)
        raise ModelFormatError(
            "expected an unknown token in the vocabulary, got none, and no other token can write "
            "this text; convert the model again"
        )

    def known_ids(self, ids: NDArray[np.int32]) -> list[int]:
        """Return ids as a list, negative ones being the unknown token."""
        if (ids < 0).any():
            ids = np.where(ids < 0, np.int32(self.unknown_id), ids)
        known: list[int] = ids.tolist()
        return known

    def frame(self, ids: list[int], frame: Frame) -> list[int]:
        """Put the ids that begin and end a text around it."""
        head = [] if frame.bos is None else [frame.bos]
        tail = [] if frame.eos is None else [frame.eos]
        return [*head, *ids, *tail]

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; none for unused and undefined tokens."""
        text = self.vocabulary.tokens[token]
        kind = self.vocabulary.types[token]
        if kind == TokenType.NORMAL:
            return self.normal_bytes(text)
        if kind == TokenType.BYTE:
            return byte_of(text)
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN):
            return text_bytes(text)
        return b""


def text_bytes(text: str) -> bytes:
    """UTF-8 of a token's text; surrogates become the bytes that they stand for."""
    return text.encode("utf-8", "surrogateescape")


def byte_of(text: str) -> bytes:
    """The byte of a token such as `<0x0A>`; the text itself when it has another form."""
    try:
        return bytes([int(text[3:5], 16)])
    except ValueError:
        return text_bytes(text)


def byte_token(byte: int) -> str:
    """The text of the token for a byte: `<0x0A>`."""
    return f"<0x{byte:02X}>"
