"""The tokens of a file: texts, types, scores and ids."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import ModelFormatError

Metadata = Mapping[str, Any]
"""Metadata of a GGUF file: flags, numbers, texts, numpy arrays and sequences of strings."""


class TokenType(IntEnum):
    """What `tokenizer.ggml.token_type` says of a token."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Vocabulary:
    """Texts, types and scores of V tokens.

    Parameters
    ----------
    tokens : list of str
        Text of each token as the file has it; bytes that are not UTF-8 stand as surrogates.
    types : ndarray of int32, shape (V,)
        `TokenType` of each token.
    scores : ndarray of float32, shape (V,), optional
        Zeros without.

    Attributes
    ----------
    ids : dict of str to int
        Token text to id; the last one wins where two tokens share a text.
    """

    def __init__(
        self,
        tokens: list[str],
        types: NDArray[np.int32] | None = None,
        scores: NDArray[np.float32] | None = None,
    ) -> None:
        n_vocab = len(tokens)
        self.tokens = tokens
        self.ids = dict(zip(tokens, range(n_vocab), strict=True))
        if "" in self.ids:
            self._name_empty_tokens()
        normal = TokenType.NORMAL.value
        self.types = np.full(n_vocab, normal, np.int32) if types is None else types
        self.scores = np.zeros(n_vocab, np.float32) if scores is None else scores

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> "Vocabulary":
        """Read `tokenizer.ggml.tokens`, `.token_type` and `.scores`.

        Raises
        ------
        ModelFormatError
            If the tokens are missing, or there are fewer types or scores than tokens.
        """
        tokens = read_strings(metadata, "tokenizer.ggml.tokens")
        types = _numbers(metadata, "tokenizer.ggml.token_type", len(tokens))
        scores = _numbers(metadata, "tokenizer.ggml.scores", len(tokens))
        return cls(
            tokens,
            None if types is None else types.astype(np.int32),
            None if scores is None else scores.astype(np.float32),
        )

    def ids_of_types(self, *types: TokenType) -> list[int]:
        """Ids of all tokens of these types, ascending."""
        found: list[int] = np.flatnonzero(np.isin(self.types, [int(t) for t in types])).tolist()
        return found

    def _name_empty_tokens(self) -> None:
        # an empty text would match everywhere
        for i, text in enumerate(self.tokens):
            if not text:
                self.tokens[i] = f"[EMPTY_{i}]"
                self.ids[self.tokens[i]] = i
        del self.ids[""]


def read_strings(metadata: Metadata, key: str) -> list[str]:
    """The strings of an array of strings or bytes, as a new list of str.

    Raises
    ------
    ModelFormatError
        If the key is missing or is not an array of strings.
    """
    value = metadata.get(key)
    if value is None or isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ModelFormatError(
            f"{key}: expected an array of strings, got {type(value).__name__}; "
            "convert the model again"
        )
    raw_list = getattr(value, "raw_list", None)  # arrays that can give bytes that are not UTF-8
    items: list[Any] = list(value) if raw_list is None else raw_list()
    try:
        return [item if isinstance(item, str) else item.decode() for item in items]
    except UnicodeDecodeError:
        return [i if isinstance(i, str) else i.decode("utf-8", "surrogateescape") for i in items]
    except AttributeError as error:
        raise ModelFormatError(f"{key}: expected strings, got other values") from error


def read_flag(metadata: Metadata, key: str, default: bool) -> bool:
    """A flag, or the default where the file has none.

    Raises
    ------
    ModelFormatError
        If the key holds something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, bool | int | np.bool_ | np.integer):
        raise ModelFormatError(f"{key}: expected true or false, got {type(value).__name__}")
    return bool(value)


def _numbers(metadata: Metadata, key: str, n_vocab: int) -> NDArray[Any] | None:
    value = metadata.get(key)
    if value is None:
        return None
    numbers = np.asarray(value)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or len(numbers) < n_vocab:
        raise ModelFormatError(
            f"{key}: expected {n_vocab} numbers, one for each token, got "
            f"shape {numbers.shape} of {numbers.dtype}; convert the model again"
        )
    return numbers[:n_vocab]
