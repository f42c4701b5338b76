"""Checkpoints of llama2.c: seven numbers, then float32 weights of all layers side by side.

======== ==============================================================================
bytes    content
======== ==============================================================================
0-27     int32: columns, columns of the feed-forward block, layers, heads, heads of keys,
         vocabulary (negative if the output has a matrix of its own), longest text
28-      float32 matrices, as `_LAYOUT` lists them
======== ==============================================================================

The vocabulary is a file of its own, tokenizer.bin: int32 longest token, then for every token
float32 score, int32 length, and its text.

Source: https://github.com/karpathy/llama2.c, `export.py` (version 0) and `tokenizer.py`.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jitllm.llm.convert import _tokens as tokens
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError, UnsupportedFormat

_HEADER = struct.Struct("<7i")
_TOKEN = struct.Struct("<fi")
_NEWER = 0x616B3432  # "ak42", with which later versions begin
_RMS_EPS = 1e-5
_MARKS = (("<unk>", tokens.UNKNOWN), ("<s>", tokens.CONTROL), ("</s>", tokens.CONTROL))
_FIRST_BYTE = len(_MARKS)


class _Sizes(NamedTuple):
    """The header, the vocabulary's size positive."""

    hidden: int
    inner: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_vocab: int
    n_ctx: int
    tied: bool

    @property
    def head_dim(self) -> int:
        return self.hidden // self.n_heads


def read(path: Path, tokenizer: Path, name: str) -> Target:
    """Return a "llama" made of a checkpoint and its vocabulary.

    Parameters
    ----------
    path, tokenizer : Path
    name : str
        `general.name`.

    Raises
    ------
    ModelNotFoundError
        If there is no tokenizer.
    ModelFormatError
        If a file is no checkpoint or no vocabulary, or they do not fit.
    UnsupportedFormat
        If the checkpoint is of a later version.
    """
    sizes = _read_header(path)
    target = Target("llama")
    target.key("string", "general.name", name)
    for key, value in (
        ("context_length", sizes.n_ctx), ("embedding_length", sizes.hidden),
        ("block_count", sizes.n_layers), ("feed_forward_length", sizes.inner),
        ("attention.head_count", sizes.n_heads), ("attention.head_count_kv", sizes.n_kv_heads),
        ("rope.dimension_count", sizes.head_dim), ("vocab_size", sizes.n_vocab),
    ):  # fmt: skip
        target.key("uint32", key, value)
    target.key("float32", "attention.layer_norm_rms_epsilon", _RMS_EPS)
    _tensors(path, sizes, target)
    _vocabulary(tokenizer, sizes.n_vocab, target)
    return target


def _read_header(path: Path) -> _Sizes:
    with open(path, "rb") as file:
        data = file.read(_HEADER.size)
    if len(data) < _HEADER.size:
        raise ModelFormatError(f"{path}: expected a checkpoint of llama2.c, got {len(data)} bytes")
    hidden, inner, n_layers, n_heads, n_kv_heads, n_vocab, n_ctx = _HEADER.unpack(data)
    if hidden == _NEWER:
        raise UnsupportedFormat(
            f"{path}: expected a checkpoint of version 0, got a later one; export it with "
            "`export.py --version 0`"
        )
    sizes = _Sizes(hidden, inner, n_layers, n_heads, n_kv_heads, abs(n_vocab), n_ctx, n_vocab > 0)
    if min(sizes[:7]) <= 0 or hidden % n_heads or n_heads % n_kv_heads:
        raise ModelFormatError(f"{path}: expected sizes of a model, got {tuple(sizes[:7])}")
    return sizes


def _tensors(path: Path, sizes: _Sizes, target: Target) -> None:
    made, start = {}, _HEADER.size
    for name, n, shape in _layout(sizes):
        nbytes = 4 * int(np.prod(shape))
        for i in range(n):
            made[name.format(i)] = _weight(path, start + i * nbytes, shape)
        start += n * nbytes
    if (size := path.stat().st_size) != start:
        raise ModelFormatError(
            f"{path}: expected {start} bytes for its sizes, got {size}; the file is not complete"
        )
    for name in sorted(made, key=lambda name: (name.startswith("blk."), _layer(name))):
        if not name.startswith("rope"):
            target.tensor(name, made[name])


def _layer(name: str) -> int:
    return int(name.split(".")[1]) if name.startswith("blk.") else 0


def _layout(sizes: _Sizes) -> list[tuple[str, int, tuple[int, ...]]]:
    """Names, how many of them one after the other, and shapes, in the order of the file."""
    hidden, inner, n = sizes.hidden, sizes.inner, sizes.n_layers
    keys = sizes.n_kv_heads * sizes.head_dim
    turns = (sizes.n_ctx * sizes.head_dim // 2,)
    layout: list[tuple[str, int, tuple[int, ...]]] = [
        ("token_embd.weight", 1, (sizes.n_vocab, hidden)),
        ("blk.{}.attn_norm.weight", n, (hidden,)),
        ("blk.{}.attn_q.weight", n, (hidden, hidden)),
        ("blk.{}.attn_k.weight", n, (keys, hidden)),
        ("blk.{}.attn_v.weight", n, (keys, hidden)),
        ("blk.{}.attn_output.weight", n, (hidden, hidden)),
        ("blk.{}.ffn_norm.weight", n, (hidden,)),
        ("blk.{}.ffn_gate.weight", n, (inner, hidden)),
        ("blk.{}.ffn_down.weight", n, (hidden, inner)),
        ("blk.{}.ffn_up.weight", n, (inner, hidden)),
        ("output_norm.weight", 1, (hidden,)),
        ("rope_cosines", 1, turns),
        ("rope_sines", 1, turns),
    ]
    if not sizes.tied:
        layout.append(("output.weight", 1, (sizes.n_vocab, hidden)))
    return layout


def _weight(path: Path, start: int, shape: tuple[int, ...]) -> Weight:
    def read_array() -> Array:
        return np.fromfile(path, "<f4", int(np.prod(shape)), offset=start)

    return Weight("F32", shape, (read_array,))


def _vocabulary(path: Path, n_vocab: int, target: Target) -> None:
    if not path.is_file():
        raise ModelNotFoundError(
            f"expected the vocabulary of llama2.c at {path}, got no such file; give its path"
        )
    data, pos = path.read_bytes(), 4
    result = tokens.Tokens()
    try:
        for i in range(n_vocab):
            score, length = _TOKEN.unpack_from(data, pos)
            pos += _TOKEN.size + length
            if length < 0 or pos > len(data):
                raise ValueError(f"a token of {length} bytes")
            result.add(*_token(i, data[pos - length : pos]), score)
    except (struct.error, ValueError) as error:
        raise ModelFormatError(
            f"{path}: expected a vocabulary of {n_vocab} tokens, got {error}; it is of another "
            "model, or not complete"
        ) from None
    result.write(target, "llama", "default", scores=True)
    for part, i in (("bos", 1), ("eos", 2), ("unknown", 0)):
        target.key("uint32", f"tokenizer.ggml.{part}_token_id", i)
    target.key("bool", "tokenizer.ggml.add_bos_token", True)


def _token(i: int, text: bytes) -> tuple[str, int]:
    if i < _FIRST_BYTE:
        return _MARKS[i]
    if i < _FIRST_BYTE + 256:  # older files have the bytes themselves
        return f"<0x{i - _FIRST_BYTE:02X}>", tokens.BYTE
    return text.decode().replace(" ", "▁"), tokens.NORMAL
