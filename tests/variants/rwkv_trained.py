"""A trained RWKV-7 of 834,000 parameters over bytes, and the logits that its makers give for it.

`data/tiny-rwkv-7v0.bin.xz` is tests/tiny-rwkv-7v0-834K-FP32.bin of RWKV/rwkv.cpp, compressed:
int32 magic, version, vocabulary, columns, layers and type, then tensors: int32 number of
dimensions, length of the name and type, int32 dimensions (fastest first), name, float32 values.
"""

import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, write_gguf

Floats = NDArray[np.float32]
HEADER_WORDS, FLOAT32 = 6, 0
PROMPT = '"in'

_PARTS = {
    "att.x_rwkvag": "time_mix_lerp_fused",
    "att.ln_x": "time_mix_ln",
    "att": "time_mix",
    "ffn.x_k": "channel_mix_lerp_k",
    "ffn": "channel_mix",
    "ln1": "attn_norm",
    "ln2": "attn_norm_2",
}
_SINGLE = {
    "emb.weight": "token_embd.weight",
    "blocks.0.ln0.weight": "token_embd_norm.weight",
    "blocks.0.ln0.bias": "token_embd_norm.bias",
    "ln_out.weight": "output_norm.weight",
    "ln_out.bias": "output_norm.bias",
    "head.weight": "output.weight",
}


def trained_model(path: str | os.PathLike[str]) -> Path:
    """Write the trained model to `path` as llama.cpp's converter lays it out, and return `path`."""
    tensors: dict[str, Any] = {}
    for name, values in _tensors(lzma.decompress((DATA / "tiny-rwkv-7v0.bin.xz").read_bytes())):
        tensors[gguf_name(name)] = values
    for part in ("0", "1", "2"):  # the first layer's are there, and unused
        name = f"blk.0.time_mix_v{part}.weight"
        tensors[name] = tensors[f"blk.0.time_mix_a{part}.weight"]
    (n_ff, n), (rank, _) = (
        tensors[f"blk.0.{name}.weight"].shape for name in ("channel_mix_key", "time_mix_w1")
    )
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk."))
    ranks = ("decay", "iclr", "value_residual_mix", "gate")
    sizes = {f"attention.{name}_lora_rank": rank for name in ranks} | {
        "embedding_length": n,
        "block_count": layers,
        "feed_forward_length": n_ff,
        "wkv.head_size": n,
    }
    return write_gguf(path, metadata("rwkv7", sizes) | byte_vocabulary(), tensors)


def metadata(architecture: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """The keys of a file without its vocabulary."""
    common = {
        "context_length": 1048576,
        "attention.head_count": 0,
        "attention.layer_norm_epsilon": 1e-5,
    }
    keys = {f"{architecture}.{key}": value for key, value in (common | sizes).items()}
    return {"general.architecture": architecture} | keys


def byte_vocabulary(n_tokens: int = 256) -> dict[str, Any]:
    """The keys of a vocabulary of single bytes, the first of which begins and ends texts."""
    tokens = [repr(bytes([i]))[2:-1] for i in range(n_tokens)]
    return {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3] + [1] * (n_tokens - 1), np.int32),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }


def trained_golden() -> Floats:
    """Logits (256,) behind `PROMPT`."""
    return np.fromfile(DATA / "tiny-rwkv-7v0-logits.bin", np.float32)


def gguf_name(name: str) -> str:
    """The name in GGUF files of a tensor of RWKV-7."""
    if name in _SINGLE:
        return _SINGLE[name]
    _, layer, rest = name.split(".", 2)
    old = next(part for part in _PARTS if rest == part or rest.startswith(f"{part}."))
    rest = rest.removeprefix(old)
    new = _PARTS[old] + (rest.replace(".", "_", 1) if old in ("att", "ffn") else rest)
    return (
        f"blk.{layer}.{new}" if new.endswith((".weight", ".bias")) else f"blk.{layer}.{new}.weight"
    )


def _tensors(data: bytes) -> Iterator[tuple[str, Floats]]:
    """Names and values, dimensions of size 1 left out but for mixes."""
    at = 4 * HEADER_WORDS
    while at < len(data):
        n_dims, n_name, kind = np.frombuffer(data, np.int32, 3, at)
        assert kind == FLOAT32
        at += 12
        dims = np.frombuffer(data, np.int32, n_dims, at)
        at += 4 * int(n_dims)
        name = data[at : at + int(n_name)].decode()
        at += int(n_name)
        values = np.frombuffer(data, np.float32, int(np.prod(dims)), at)
        at += values.nbytes
        shape = tuple(int(n) for n in dims[::-1])
        if name.endswith("x_rwkvag"):
            yield name, values.reshape(shape[0], 1, 1, shape[-1])
        else:
            yield name, values.reshape([n for n in shape if n > 1])
