"""Vocabularies of SentencePiece, read from tokenizer.model.

The file is a message of Protocol Buffers, `ModelProto`, of which a dozen lines read what is needed
here: field 1 holds the pieces, each with text (1), score (2) and kind (3). The sentencepiece
package need not be there.

Source: https://github.com/google/sentencepiece, `src/sentencepiece_model.proto`.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jitllm.llm.convert import _special as special
from jitllm.llm.convert import _tokens as tokens
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError

_FILE = "tokenizer.model"
KINDS = {2: tokens.UNKNOWN, 3: tokens.CONTROL, 5: tokens.UNUSED, 6: tokens.BYTE}
_TRAINER, _NORMALIZER = 2, 3  # fields with messages of their own
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0


def write(source: Source, target: Target, by_looks: bool = True) -> bool:
    """Put down the vocabulary; False if there is no tokenizer.model.

    Parameters
    ----------
    source, target : Source, Target
    by_looks : bool
        Whether added tokens that look like control tokens are some, whatever they are marked as.
    """
    if not (source.folder / _FILE).is_file():
        return False
    result = _known(source, by_looks)
    result.write(target, "llama", "default", scores=True)
    special.write(source, target, n_vocab=len(result.texts))
    return True


def _known(source: Source, by_looks: bool) -> tokens.Tokens:
    """Return the tokens: pieces, what was added to them, and unused ones up to the model's number.

    What is added with a higher number than the model has is left out: it has no weights.
    """
    pieces = read_pieces(source)
    size = tokens.vocab_size(source, len(pieces), or_fewer=True)
    result = tokens.Tokens()
    for text, score, kind in pieces[:size]:
        result.add(text, KINDS.get(kind, tokens.NORMAL), score)
    for i in range(len(pieces), size):
        result.add(f"[PAD{i}]", tokens.UNUSED, _UNUSED_SCORE)
    for text, i in source.json("added_tokens.json").items():
        if 0 <= i < size:
            result.replace(i, text, tokens.USER_DEFINED, _ADDED_SCORE)
    for i, text, is_special in _added(source, by_looks):
        if 0 <= i < size:
            if by_looks:
                text, kind = tokens.added_kind(text, is_special)
            else:
                kind = tokens.CONTROL if is_special else tokens.USER_DEFINED
            result.replace(i, text, kind, _ADDED_SCORE)
    return result


def _added(source: Source, by_looks: bool) -> Iterator[tuple[int, str, bool]]:
    """Yield numbers and texts of added tokens, and whether they are marked as special."""
    decoder = source.json("tokenizer_config.json").get("added_tokens_decoder", {})
    for number, token in decoder.items():
        yield int(number), token["content"], bool(token.get("special"))
    if not by_looks:  # marks alone count: those of tokenizer.json last
        for token in source.json("tokenizer.json").get("added_tokens", []):
            yield int(token["id"]), token["content"], bool(token.get("special"))


class Model(NamedTuple):
    """What a file of SentencePiece says.

    Attributes
    ----------
    pieces : list of (str, float, int)
        Text, score and kind.
    kind : int
        1 for a unigram model, 2 for BPE.
    adds_prefix, removes_spaces : bool
        Whether texts begin with a space, and have one between words at most.
    characters : bytes
        Which characters become others, as the library stores it.
    """

    pieces: list[tuple[str, float, int]]
    kind: int
    adds_prefix: bool
    removes_spaces: bool
    characters: bytes


def read_pieces(source: Source) -> list[tuple[str, float, int]]:
    """Return text, score and kind of every piece in tokenizer.model; errors as of `read_model`."""
    return read_model(source.folder / _FILE).pieces


def read_model(path: Path) -> Model:
    """Return what a file says.

    Raises
    ------
    ModelFormatError
        If the file is damaged.
    """
    pieces = []
    specs: dict[int, dict[int, Any]] = {_TRAINER: {}, _NORMALIZER: {}}
    try:
        for field, message in _fields(memoryview(path.read_bytes())):
            if field == 1 and isinstance(message, memoryview):
                parts: dict[int, Any] = dict(_fields(message))
                score = struct.unpack("<f", parts[2])[0] if 2 in parts else 0.0
                pieces.append((bytes(parts[1]).decode(), score, parts.get(3, 1)))
            elif field in specs and isinstance(message, memoryview):
                specs[field] = dict(_fields(message))
        characters = bytes(specs[_NORMALIZER].get(2, b""))
    except (ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise ModelFormatError(f"{path}: expected a SentencePiece model, got {error!r}") from None
    if not pieces:
        raise ModelFormatError(f"{path}: expected a SentencePiece model, got one without pieces")
    prefix, spaces = (bool(specs[_NORMALIZER].get(i, 1)) for i in (3, 4))
    return Model(pieces, int(specs[_TRAINER].get(3, 1)), prefix, spaces, characters)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield numbers and values of a message's fields; values are numbers or bytes."""
    pos = 0
    while pos < len(data):
        tag, pos = _varint(data, pos)
        kind = tag & 7
        if kind == 0:
            value, pos = _varint(data, pos)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, pos = _varint(data, pos)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if pos + size > len(data):
            raise ValueError("a field longer than its message")
        yield tag >> 3, data[pos : pos + size]
        pos += size


def _varint(data: memoryview, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        pos, shift = pos + 1, shift + 7
        if byte < 0x80:
            return value, pos
