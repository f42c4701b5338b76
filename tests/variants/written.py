"""Tiny models of architectures that the conformance set lacks, with what llama.cpp gives for them.

`python -m variants.written FOLDER` writes the files, and `recorders/written.py`, run where
llama_cpp is installed, makes `data/written_models.npz` of them. It holds for each, of llama.cpp
0.5.0 with one thread, F32 cache and flash attention off:

- decoders: tokens (28,) and logits (16, 128) of the last 16 positions, 20 tokens in one batch, then
  8 single ones;
- encoders: tokens (150,), "states" (150, 64), and their "mean" (64,);
- models with encoder and decoder: source (150,), tokens (140,) of the decoder, the first being the
  one that decoders start with, and logits (16, 128) of the last 16 positions, 132 tokens in one
  batch, then 8 single ones; and "greedy" (24,), what follows the first token when the likeliest one
  is always taken; and "transformers" (16, 128), the same logits by transformers 5.23
  (`recorders/t5_transformers.py`).

Distances beyond 128, which all are in the last bucket, occur in the long texts.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, write_gguf

from variants import variant_weights

Shapes = dict[str, tuple[int, ...]]

N, HEADS, HEAD, FF, LAYERS, DECODER_LAYERS, VOCAB, N_CTX, BUCKETS = (
    64,
    4,
    24,
    96,
    3,
    2,
    128,
    256,
    32,
)
START, END = 0, 1


@dataclass(frozen=True)
class WrittenModel:
    """One tiny model.

    Attributes
    ----------
    layers : mapping of str to (int, shapes)
        Prefix of the layers' names, how many there are, and the tensors of each, NumPy order.
    single : mapping of str to shape
        Other tensors, besides the embeddings of tokens.
    metadata : mapping
        Keys without the architecture's prefix; one that starts with a dot has none.
    """

    layers: Mapping[str, tuple[int, Shapes]]
    single: Shapes
    metadata: Mapping[str, Any] = field(default_factory=dict)


def _bare(**shapes: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


_WIDTH = HEADS * HEAD
_ATTENTION = {"q": (_WIDTH, N), "k": (_WIDTH, N), "v": (_WIDTH, N), "o": (N, _WIDTH)}
_OWN = _bare(attn_norm=(N,)) | {f"attn_{x}.weight": s for x, s in _ATTENTION.items()}
_CROSS = _bare(cross_attn_norm=(N,)) | {f"cross_attn_{x}.weight": s for x, s in _ATTENTION.items()}
_PLAIN = _bare(ffn_norm=(N,), ffn_up=(FF, N), ffn_down=(N, FF))
_GATED = _PLAIN | _bare(ffn_gate=(FF, N))
_TABLE = (BUCKETS, HEADS)  # of distances
_T5 = {
    "attention.relative_buckets_count": BUCKETS, "attention.key_length": HEAD,
    "attention.value_length": HEAD,
}  # fmt: skip
_BOTH = _T5 | {"decoder_start_token_id": START, "decoder_block_count": DECODER_LAYERS}
_ENDS: Shapes = {"enc.output_norm.weight": (N,), "dec.output_norm.weight": (N,)}
_TABLES: Shapes = {"enc.blk.0.attn_rel_b.weight": _TABLE, "dec.blk.0.attn_rel_b.weight": _TABLE}
_KV = (N // 2, N)

WRITTEN = {
    "t5": WrittenModel(
        {"enc.blk.": (LAYERS, _OWN | _PLAIN), "dec.blk.": (DECODER_LAYERS, _OWN | _CROSS | _PLAIN)},
        _ENDS | _TABLES,
        _BOTH,
    ),
    "t5.gated": WrittenModel(  # with a table in every layer, as UMT5 has it
        {
            "enc.blk.": (LAYERS, _OWN | _GATED | _bare(attn_rel_b=_TABLE)),
            "dec.blk.": (DECODER_LAYERS, _OWN | _CROSS | _GATED | _bare(attn_rel_b=_TABLE)),
        },
        _ENDS | {"output.weight": (VOCAB, N)},
        _BOTH,
    ),
    "t5encoder": WrittenModel(
        {"enc.blk.": (LAYERS, _OWN | _GATED)},
        {"enc.output_norm.weight": (N,), "enc.blk.0.attn_rel_b.weight": _TABLE},
        _T5,
    ),
    "bitnet": WrittenModel(
        {"blk.": (LAYERS, _GATED | _bare(
            attn_norm=(N,), attn_q=(N, N), attn_k=_KV, attn_v=_KV, attn_output=(N, N),
            attn_sub_norm=(N,), ffn_sub_norm=(FF,),
        ) | {f"{name}.scale": (1,) for name in (
            "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
        )})},
        _bare(output_norm=(N,)),
        {"attention.head_count_kv": HEADS // 2, "rope.freq_base": 100.0},
    ),
    "apertus": WrittenModel(
        {"blk.": (LAYERS, _PLAIN | _bare(
            attn_norm=(N,), attn_q=(N, N), attn_k=_KV, attn_v=_KV, attn_output=(N, N),
            attn_q_norm=(N // HEADS,), attn_k_norm=(N // HEADS,),
        ) | {"attn_output.bias": (N,), "attn_q.bias": (N,)})},
        _bare(output_norm=(N,), output=(VOCAB, N), rope_freqs=(N // HEADS // 2,)),
        {
            "attention.head_count_kv": HEADS // 2, "rope.freq_base": 100.0,
            ".xielu.alpha_p": np.array([0.8, -1.5, 0.1], np.float32),
            ".xielu.alpha_n": np.array([0.3, 1.2, -0.5], np.float32),
            ".xielu.beta": np.array([0.5, 0.25, 0.5], np.float32),
            ".xielu.eps": np.array([-1e-6, -0.1, -1e-6], np.float32),
        },
    ),
}  # fmt: skip


def written_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the model `name` to `path`, and return `path`."""
    model, arch = WRITTEN[name], name.partition(".")[0]
    metadata: dict[str, Any] = {
        "context_length": N_CTX, "embedding_length": N, "block_count": LAYERS,
        "feed_forward_length": FF, "attention.head_count": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5, "attention.layer_norm_epsilon": 1e-5,
    } | dict(model.metadata)  # fmt: skip
    shapes = {"token_embd.weight": (VOCAB, N)} | model.single
    for prefix, (count, layer) in model.layers.items():
        shapes |= {f"{prefix}{i}.{tensor}": s for i in range(count) for tensor, s in layer.items()}
    keys = {k[1:] if k[0] == "." else f"{arch}.{k}": value for k, value in metadata.items()}
    tensors = {tensor: _weights(tensor, shape) for tensor, shape in shapes.items()}
    return write_gguf(path, keys | {"general.architecture": arch} | vocabulary(), tensors)


def _weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    weights = variant_weights(name, shape)
    if name == "rope_freqs.weight":
        return np.linspace(1, 8, shape[0], dtype=np.float32)
    if name == "token_embd.weight":  # less than the layers add: else each token repeats itself
        return weights * np.float32(0.2)
    if name.endswith("attn_rel_b.weight"):
        return weights * np.float32(3)
    # scores of T5 are not divided by the root of the heads' size
    return weights * np.float32(0.125 if re.match(r"(enc|dec)\..*attn_q\.", name) else 1)


def vocabulary() -> dict[str, Any]:
    """Metadata of a unigram vocabulary: letters, some of their pairs and a few words."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pieces = ["\u2581", *letters, *(f"\u2581{x}" for x in letters), "\u2581the", "\u2581cat", "ing"]
    pieces += [f"{a}{b}" for a in "aeiou" for b in letters][: VOCAB - 3 - len(pieces)]
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": ["<pad>", "</s>", "<unk>", *pieces],
        "tokenizer.ggml.scores": np.array(
            [0, 0, 0, *(-1 - i / 8 for i in range(len(pieces)))], np.float32
        ),
        "tokenizer.ggml.token_type": np.array([3, 3, 2] + [1] * len(pieces), np.int32),
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 2,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }


def written_golden(name: str) -> dict[str, NDArray[Any]]:
    """All that the data hold for `name`."""
    with np.load(DATA / "written_models.npz") as data:
        prefix = f"{name}/"
        return {key[len(prefix) :]: data[key] for key in data if key.startswith(prefix)}


if __name__ == "__main__":
    for each in WRITTEN:
        written_model(each, Path(sys.argv[1]) / f"{each}.gguf")
