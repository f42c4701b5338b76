"""Tiny encoders, with what llama.cpp gives for them.

`data/encoders.npz` holds for each: tokens (20,), and of llama.cpp 0.5.0 on them, in one batch with
one thread and flash attention off, "states" (20, 64) without pooling, "mean" (64,) and, where there
is a classifier, "rank". It also holds vectors of real models, see `MINILM_TEXTS`: those of
stories260K ("mean" and "last"), and what `reranker_model` gives ("rank").
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, write_gguf

from jitllm.llm.loaders.gguf import GGUFFile, StringArray
from variants import variant_model, variant_weights

Shapes = dict[str, tuple[int, ...]]

N, HEADS, FF, LAYERS, VOCAB, N_CTX, EXPERTS = 64, 2, 96, 3, 96, 64, 4
MINILM_TEXTS = (
    "The cat sits on the mat.",
    "A dog runs across the field.",
    "Numbers such as 3.14 are not words; nor is \u00e9t\u00e9!",
)
"""Texts of "minilm" (3, 384): normalized means by all-MiniLM-L6-v2, weights Q3_K_S, computed by
llama.cpp in float32, from a file with the same weights as float32 numbers."""

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"\u2581{letter}" for letter in "abcdefghij")]


@dataclass(frozen=True)
class Encoder:
    """One tiny encoder.

    Attributes
    ----------
    layer : mapping of str to shape
        Tensors of each layer, NumPy order.
    single : mapping of str to shape
        Other tensors, besides the embeddings of tokens.
    metadata : mapping
        Keys without the architecture's prefix.
    without : tuple of str
        Tensors to leave out.
    """

    layer: Shapes
    single: Shapes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


def _with_bias(**shapes: tuple[int, ...]) -> Shapes:
    """Matrices or norms, each with its bias."""
    both: Shapes = {}
    for name, shape in shapes.items():
        both |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return both


def _bare(**shapes: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


_SQUARE, _UP, _DOWN, _BOTH = (N, N), (FF, N), (N, FF), (2 * FF, N)
_START = {"token_types.weight": (2, N)} | _with_bias(token_embd_norm=(N,))
_NORMS = _with_bias(attn_output_norm=(N,), layer_output_norm=(N,))
_QKV = _with_bias(attn_q=_SQUARE, attn_k=_SQUARE, attn_v=_SQUARE)
_BERT = (
    _QKV | _with_bias(attn_output=_SQUARE, ffn_up=_UP, ffn_down=_DOWN) | _NORMS
)  # fmt: skip
_FUSED = _with_bias(attn_qkv=(3 * N, N), attn_output=_SQUARE) | _NORMS
_PRE = _bare(attn_norm=(N,), attn_qkv=(3 * N, N), attn_output=_SQUARE, ffn_norm=(N,))
_HEAD = _with_bias(cls=_SQUARE) | {"cls.output.weight": (1, N), "cls.output.bias": (1,)}
_JINA = _QKV | _NORMS | _with_bias(
    attn_output=_SQUARE, attn_q_norm=(N,), attn_k_norm=(N,), ffn_down=_DOWN
)  # fmt: skip
_RMS = {"attention.layer_norm_rms_epsilon": 1e-5}

ENCODERS = {
    "bert": Encoder(_BERT, _START | _HEAD | {"position_embd.weight": (N_CTX, N)}),
    "nomic-bert": Encoder(
        _bare(attn_qkv=(3 * N, N), attn_output=_SQUARE, ffn_gate=_UP, ffn_up=_UP, ffn_down=_DOWN)
        | _NORMS,
        _START,
        {"rope.freq_base": 1000.0},
    ),
    "nomic-bert-moe": Encoder(
        _FUSED
        | _with_bias(ffn_up=_UP, ffn_down=_DOWN)
        | _bare(ffn_gate_inp=(EXPERTS, N), ffn_up_exps=(EXPERTS, FF, N),
                ffn_down_exps=(EXPERTS, N, FF)),
        _START,
        {"moe_every_n_layers": 2, "expert_count": EXPERTS, "expert_used_count": 2},
        tuple(f"blk.{i}.ffn_{part}" for i in (0, 2)
              for part in ("gate_inp.weight", "up_exps.weight", "down_exps.weight"))
        + tuple(f"blk.1.ffn_{part}" for part in
                ("up.weight", "up.bias", "down.weight", "down.bias")),
    ),
    "jina-bert-v2": Encoder(
        _JINA | _with_bias(attn_norm_2=(N,)) | _bare(ffn_up=_BOTH),
        _START | {"cls.weight": (1, N), "cls.bias": (1,)},
    ),
    "jina-bert-v2.gate": Encoder(_JINA | _with_bias(ffn_up=_UP) | _bare(ffn_gate=_UP), _START),
    "jina-bert-v3": Encoder(_FUSED | _with_bias(ffn_up=_UP, ffn_down=_DOWN), _START),
    "modern-bert": Encoder(
        _PRE | _bare(ffn_up=_BOTH, ffn_down=_DOWN),
        _bare(token_embd_norm=(N,), output_norm=(N,), cls=_SQUARE)
        | {"cls.norm.weight": (N,), "cls.output.weight": (1, N), "cls.output.bias": (1,)},
        {
            "attention.sliding_window": 7,
            "rope.freq_base": 100000.0,
            "rope.freq_base_swa": 100.0,
            "rope.scaling.factor": 4.0,
        },
        ("blk.0.attn_norm.weight",),
    ),
    "modern-bert.silu": Encoder(
        _PRE | _bare(ffn_up=_BOTH, ffn_down=_DOWN),
        _bare(token_embd_norm=(N,), output_norm=(N,)),
        {"hidden_activation": "silu"},
    ),
    "neo-bert": Encoder(
        _PRE | _bare(ffn_up=_BOTH, ffn_down=_DOWN), {"enc.output_norm.weight": (N,)}, _RMS
    ),
    "eurobert": Encoder(
        _bare(attn_norm=(N,), attn_q=_SQUARE, attn_k=_SQUARE, attn_v=_SQUARE, ffn_norm=(N,),
              attn_output=_SQUARE, ffn_gate=_UP, ffn_up=_UP, ffn_down=_DOWN),
        _bare(output_norm=(N,)),
        _RMS,
    ),
    "gemma-embedding": Encoder(
        _bare(attn_norm=(N,), attn_q=_SQUARE, attn_k=(N // 2, N), attn_v=(N // 2, N),
              attn_output=_SQUARE, attn_q_norm=(N // 2,), attn_k_norm=(N // 2,),
              post_attention_norm=(N,), ffn_norm=(N,), ffn_gate=_UP, ffn_up=_UP, ffn_down=_DOWN,
              post_ffw_norm=(N,)),
        _bare(output_norm=(N,), dense_2=(2 * N, N), dense_3=(N, 2 * N)),
        _RMS
        | {
            "attention.head_count_kv": 1,
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": 2,
            "rope.freq_base": 100000.0,
            "rope.freq_base_swa": 100.0,
            "rope.scaling.factor": 4.0,
            "dense_2_feat_in": N, "dense_2_feat_out": 2 * N,
            "dense_3_feat_in": 2 * N, "dense_3_feat_out": N,
        },
    ),
}  # fmt: skip


def encoder_model(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the encoder `name` to `path`, and return `path`."""
    encoder, arch = ENCODERS[name], name.partition(".")[0]
    metadata: dict[str, Any] = {
        "context_length": N_CTX, "embedding_length": N, "block_count": LAYERS,
        "feed_forward_length": FF, "attention.head_count": HEADS,
        "attention.layer_norm_epsilon": 1e-5, "attention.causal": False,
        "rope.freq_base": 10000.0,
    } | dict(encoder.metadata)  # fmt: skip
    shapes = {"token_embd.weight": (VOCAB, N)} | encoder.single
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{tensor}": shape for tensor, shape in encoder.layer.items()}
    tensors = {t: variant_weights(t, s) for t, s in shapes.items() if t not in encoder.without}
    keys = {f"{arch}.{key}": value for key, value in metadata.items()}
    return write_gguf(path, keys | {"general.architecture": arch} | _vocabulary(), tensors)


def reranker_model(path: str | os.PathLike[str]) -> Path:
    """Write the variant "qwen3" with a classifier of two labels to `path`; "qwen3" in the data."""
    path = Path(path)
    with GGUFFile(variant_model("qwen3", path.with_suffix(".plain.gguf"))) as file:
        metadata = {
            key: list(value) if isinstance(value, StringArray) else value
            for key, value in file.metadata.items()
            if not isinstance(value, StringArray) or len(value)
        }
        tensors = {
            name: file.data(name).view(np.float32).reshape(info.shape).copy()
            for name, info in file.tensors.items()
        }
    name = "cls.output.weight"
    tensors[name] = variant_weights(name, (2, tensors["output_norm.weight"].size))
    labels = {"qwen3.pooling_type": 4, "qwen3.classifier.output_labels": ["yes", "no"]}
    return write_gguf(path, metadata | labels, tensors)


def _vocabulary() -> dict[str, Any]:
    tokens = [*_WORDS, *(f"x{i}" for i in range(VOCAB - len(_WORDS)))]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3] * 4 + [1] * (VOCAB - 4), np.int32),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
    }


def encoder_golden(name: str) -> dict[str, NDArray[Any]]:
    """All that the data hold for `name`."""
    with np.load(DATA / "encoders.npz") as data:
        prefix = f"{name}/"
        return {key[len(prefix) :]: data[key] for key in data if key.startswith(prefix)}
