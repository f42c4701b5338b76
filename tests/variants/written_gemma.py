"""Tiny models of gemma3n, gemma4 and step35, which the conformance set lacks.

`python -m variants.written_gemma FOLDER` writes the files; `recorders/written.py` makes
`data/written_gemma.npz` of them, which holds for each what `variants/written.py` says of decoders.
llama.cpp ran with windows of 8 positions. It has numbers of Gemma 3n in its code: 4 streams, inputs
of 256 columns, keys of their own in the first 20 layers, sparse networks in the first 10.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from logits import logits_error
from numpy.typing import NDArray
from tiny import DATA, write_gguf

from variants import variant_weights
from variants.written import vocabulary

Shapes = dict[str, tuple[int, ...]]
Layers = list[Shapes]

N, HEADS, KV_HEADS, HEAD, FF, VOCAB, N_CTX, WINDOW = 64, 4, 2, 32, 96, 128, 256, 8
EXPERTS, EXPERT_FF = 6, 32


@dataclass(frozen=True)
class Written:
    """One tiny model.

    Attributes
    ----------
    layers : list of shapes
        Tensors of each layer, NumPy order.
    single : mapping of str to shape
        Other tensors, besides the embeddings of tokens and the last norm.
    metadata : mapping
        Keys without the architecture's prefix.
    """

    layers: Layers
    single: Shapes = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


# Factors of the weights of tensors. What the router of Gemma 3n multiplies is divided by N; beside
# the residual stream its blocks are small, else 25 layers would make much of every rounding.
_SIZES = {"ffn_gate_inp.weight": 8.0}
_SIZES_3N = {
    "altup_router.": N / 16, "_coef.": 0.5, "attn_q_norm": 0.3, "post_attention_norm": 0.5,
    "post_ffw_norm": 0.3, "laurel_post_norm": 0.3, "post_norm": 0.3,
}  # fmt: skip


def _bare(**shapes: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _scales(n: int, *names: str) -> Shapes:
    return {f"{name}.scale": (n,) for name in names}


def _flags(pattern: str) -> NDArray[np.bool_]:
    """Whether a layer has a window: "w" in a pattern such as "wwf"."""
    return np.array([kind == "w" for kind in pattern])


_GATED = _bare(ffn_norm=(N,), ffn_gate=(FF, N), ffn_up=(FF, N), ffn_down=(N, FF))


def _attention(heads: int, kv_heads: int, head: int, *, fused: bool = False) -> Shapes:
    q, kv = heads * head, kv_heads * head
    own = _bare(attn_norm=(N,), attn_q_norm=(head,), attn_k_norm=(head,), attn_output=(N, q))
    if fused:
        return own | _bare(attn_qkv=(q + 2 * kv, N))
    return own | _bare(attn_q=(q, N), attn_k=(kv, N), attn_v=(kv, N))


# --- Gemma 3n: streams, inputs of layers, a thin residual matrix ------------------------------

_STREAMS, _INPUT, _RANK, _LAYERS_3N = 4, 256, 64, 25
_INPUTS = _bare(inp_gate=(_INPUT, N), proj=(N, _INPUT), post_norm=(N,))
_ALTUP = _bare(
    altup_correct_coef=(_STREAMS, _STREAMS), altup_correct_scale=(N,),
    altup_predict_coef=(_STREAMS**2, _STREAMS), altup_router=(_STREAMS, N),
    altup_router_norm=(N,), laurel_l=(_RANK, N), laurel_r=(N, _RANK), laurel_post_norm=(N,),
)  # fmt: skip
_POST = _bare(post_attention_norm=(N,), post_ffw_norm=(N,))
_LAYER_3N = _INPUTS | _ALTUP | _POST | _GATED


def _single_3n() -> Shapes:
    projections = (_STREAMS - 1, N, N)
    return _inputs(_LAYERS_3N, _INPUT) | _bare(
        altup_proj=projections, altup_unembd_proj=projections
    )


def _inputs(n_layers: int, width: int) -> Shapes:
    return _bare(
        per_layer_token_embd=(VOCAB, n_layers * width),
        per_layer_model_proj=(n_layers * width, N),
        per_layer_proj_norm=(width,),
    )


_SPARSE = np.full(_LAYERS_3N, -np.inf, np.float32)
_SPARSE[:10] = 1.6448533535003662

# --- Gemma 4: heads of two sizes ----------------------------------------------------------------

_FEW = 16  # columns of a head in a window
_KINDS_4 = "wwfwwfwf"
_SIZES_4 = {
    "attention.key_length": HEAD, "attention.value_length": HEAD,
    "attention.key_length_swa": _FEW, "attention.value_length_swa": _FEW,
    "rope.dimension_count": HEAD, "rope.dimension_count_swa": _FEW,
    "attention.sliding_window_pattern": _flags(_KINDS_4),
    "attention.head_count_kv": np.array([2 if k == "w" else 1 for k in _KINDS_4], np.uint32),
    "rope.freq_base": 1000.0, "rope.freq_base_swa": 100.0,
    "embedding_length_per_layer_input": 0,
}  # fmt: skip
_INPUT_4 = 32
_FACTORS = _bare(rope_freqs=(HEAD // 2,))


def _layers_4(*, shared: int = 0, without: str = "$^", **extra: tuple[int, ...]) -> Layers:
    """Layers of which the last `shared` have no keys and, as released models do, wider networks."""
    layers = []
    for i, kind in enumerate(_KINDS_4):
        head, kv = (_FEW, 2) if kind == "w" else (HEAD, 1)
        layer = _attention(HEADS, kv, head) | _GATED | _POST | _bare(**extra)
        if i >= len(_KINDS_4) - shared:
            wide = _bare(ffn_gate=(2 * FF, N), ffn_up=(2 * FF, N), ffn_down=(N, 2 * FF))
            layer = {k: s for k, s in layer.items() if not re.match(r"attn_[kv]", k)} | wide
        if kind == "f":
            layer = {k: s for k, s in layer.items() if not re.match(without, k)}
        layers.append(layer)
    return layers


_INPUTS_4: Any = {"inp_gate": (_INPUT_4, N), "proj": (N, _INPUT_4), "post_norm": (N,)}
_EXPERTS_4: Any = {
    "ffn_gate_inp": (EXPERTS, N), "pre_ffw_norm_2": (N,), "post_ffw_norm_1": (N,),
    "post_ffw_norm_2": (N,), "ffn_down_exps": (EXPERTS, N, EXPERT_FF),
}  # fmt: skip
_ROUTER: Shapes = {"ffn_gate_inp.scale": (N,)}
_COUNTS = {
    "expert_count": EXPERTS, "expert_used_count": 2, "expert_feed_forward_length": EXPERT_FF,
}  # fmt: skip
_FUSED_4 = [
    _attention(HEADS, 2 if k == "w" else 1, _FEW if k == "w" else HEAD, fused=True)
    for k in _KINDS_4
]
_HALVES_4 = _bare(
    **_EXPERTS_4, ffn_gate_exps=(EXPERTS, EXPERT_FF, N), ffn_up_exps=(EXPERTS, EXPERT_FF, N)
)

# --- Step 3.5: more heads in windows, gates of heads, bounded experts ---------------------------

_KINDS_35 = "fwwwfwfw"  # the last is not of the model itself


def _sizes_35(kinds: str) -> dict[str, Any]:
    return {
        "attention.key_length": HEAD, "attention.value_length": HEAD, "rope.dimension_count": HEAD,
        "attention.head_count": np.array([6 if k == "w" else 4 for k in kinds], np.uint32),
        "attention.head_count_kv": np.array([2 if k == "w" else 1 for k in kinds], np.uint32),
        "attention.sliding_window_pattern": _flags(kinds), "leading_dense_block_count": 2,
        "rope.freq_base": 1000.0, "rope.freq_base_swa": 100.0,
        "expert_shared_feed_forward_length": 48,
    }  # fmt: skip


_EXPERTS_35 = _bare(
    ffn_norm=(N,), ffn_gate_inp=(EXPERTS, N), ffn_gate_exps=(EXPERTS, EXPERT_FF, N),
    ffn_up_exps=(EXPERTS, EXPERT_FF, N), ffn_down_exps=(EXPERTS, N, EXPERT_FF),
    ffn_gate_shexp=(48, N), ffn_up_shexp=(48, N), ffn_down_shexp=(N, 48),
) | {"exp_probs_b.bias": (EXPERTS,)}  # fmt: skip
_NEXT = _bare(**{"nextn.eh_proj": (N, 2 * N), "nextn.enorm": (N,), "nextn.hnorm": (N,)})


def _layers_35(n: int, without: str = "$^", *, fused: bool = False) -> Layers:
    layers = []
    for i, kind in enumerate(_KINDS_35[:n]):
        heads, kv = (6, 2) if kind == "w" else (4, 1)
        layer = _attention(heads, kv, HEAD, fused=fused) | _bare(attn_gate=(heads, N))
        layer |= _GATED if i < 2 else _EXPERTS_35
        layers.append({k: s for k, s in layer.items() if not re.match(without, k)})
    if n == len(_KINDS_35):
        layers[-1] |= _NEXT
    return layers


def _bounds(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


WRITTEN = {
    "gemma3n": Written(
        [_attention(HEADS, KV_HEADS, HEAD) | _LAYER_3N] * _LAYERS_3N,
        _single_3n(),
        {
            "altup.num_inputs": _STREAMS, "altup.active_idx": 0, "attention.shared_kv_layers": 5,
            "embedding_length_per_layer_input": _INPUT, "activation_sparsity_scale": _SPARSE,
            "attention.sliding_window_pattern": _flags("wwwwf" * 5), "rope.freq_base": 1000.0,
            "rope.freq_base_swa": 100.0, "attention.key_length": HEAD,
            "attention.value_length": HEAD, "final_logit_softcapping": 30.0,
        },
    ),
    "gemma3n.bare": Written(  # keys are left out, matrices are fused, the output's is another
        [_attention(HEADS, KV_HEADS, HEAD, fused=True) | _LAYER_3N] * _LAYERS_3N,
        _single_3n() | {"output.weight": (VOCAB, N)},
        {
            "rope.freq_base": 1000.0, "rope.scaling.factor": 4.0, "attention.key_length": HEAD,
            "attention.value_length": HEAD,
        },
    ),
    "gemma4": Written(
        _layers_4(shared=2, **_INPUTS_4, layer_output_scale=(1,)),
        _FACTORS | _inputs(len(_KINDS_4), _INPUT_4),
        _SIZES_4
        | {
            "attention.shared_kv_layers": 2, "embedding_length_per_layer_input": _INPUT_4,
            "feed_forward_length": np.array([FF] * 6 + [2 * FF] * 2, np.uint32),
            "final_logit_softcapping": 5.0, "rope.freq_base_swa": 20.0,
        },
    ),
    "gemma4.keys_are_values": Written(
        _layers_4(without=r"attn_v\."), _FACTORS, _SIZES_4 | {"rope.scaling.factor": 2.0}
    ),
    "gemma4.experts": Written(
        [
            layer | _ROUTER | _scales(EXPERTS, "ffn_down_exps") | _bare(layer_output_scale=(1,))
            for layer in _layers_4(
                without=r"attn_v\.", **_EXPERTS_4, ffn_gate_up_exps=(EXPERTS, 2 * EXPERT_FF, N)
            )
        ],
        _FACTORS | {"output.weight": (VOCAB, N)},
        _SIZES_4 | _COUNTS,
    ),
    "gemma4.all": Written(  # experts after some layers, fused queries and keys, all scales
        [
            layer
            | _GATED
            | _POST
            | _bare(**_INPUTS_4)
            | _scales(1, "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
            | (
                _HALVES_4 | _ROUTER | _scales(EXPERTS, "ffn_gate_exps", "ffn_up_exps")
                if i % 2
                else {}
            )
            for i, layer in enumerate(_FUSED_4)
        ],
        _FACTORS | _inputs(len(_KINDS_4), _INPUT_4),
        _SIZES_4
        | _COUNTS
        | {"attention.shared_kv_layers": 2, "embedding_length_per_layer_input": _INPUT_4},
    ),
    "step35": Written(
        _layers_35(8),
        _bare(output=(VOCAB, N), rope_freqs=(HEAD // 2,)),
        _sizes_35(_KINDS_35)
        | _COUNTS
        | {
            "nextn_predict_layers": 1, "expert_weights_norm": True, "expert_weights_scale": 2.5,
            "swiglu_clamp_exp": _bounds(0, 0, 0.4, 0, 0.3, 0.5, 0.2, 0),
            "swiglu_clamp_shexp": _bounds(0.6, 0, 0, 0.5, 0.4, 0, 0.3, 0),
        },
    ),
    "step35.plain": Written(
        _layers_35(7, r"attn_(gate|q_norm|k_norm)|exp_probs", fused=True),
        _bare(output=(VOCAB, N)),
        _sizes_35(_KINDS_35[:7])
        | _COUNTS
        | {"expert_gating_func": 1, "rope.scaling.factor": 2.0, "rope.dimension_count_swa": 16},
    ),
}  # fmt: skip


def written_gemma(name: str, path: str | os.PathLike[str]) -> Path:
    """Write the model `name` to `path`, and return `path`."""
    model, arch = WRITTEN[name], name.partition(".")[0]
    metadata: dict[str, Any] = {
        "context_length": N_CTX, "embedding_length": N, "block_count": len(model.layers),
        "feed_forward_length": FF, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "attention.sliding_window": WINDOW,
        "attention.layer_norm_rms_epsilon": 1e-5,
    } | dict(model.metadata)  # fmt: skip
    shapes = {"token_embd.weight": (VOCAB, N), "output_norm.weight": (N,)} | model.single
    for i, layer in enumerate(model.layers):
        shapes |= {f"blk.{i}.{tensor}": shape for tensor, shape in layer.items()}
    keys = {f"{arch}.{key}": value for key, value in metadata.items()}
    sizes = _SIZES_3N if arch == "gemma3n" else _SIZES
    tensors = {tensor: _weights(tensor, shape, sizes) for tensor, shape in shapes.items()}
    return write_gguf(path, keys | {"general.architecture": arch} | vocabulary(), tensors)


def _weights(name: str, shape: tuple[int, ...], sizes: Mapping[str, float]) -> NDArray[np.float32]:
    if name == "rope_freqs.weight":
        return np.linspace(1, 8, shape[0], dtype=np.float32)
    size = next((size for part, size in sizes.items() if part in name), 1.0)
    return variant_weights(name, shape) * np.float32(size)


def gemma_golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens (28,) and logits (16, 128) of the last 16 positions."""
    with np.load(DATA / "written_gemma.npz") as data:
        return data[f"{name}/tokens"], data[f"{name}/logits"]


def error(name: str, path: Path, device: str = "cpu", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, gemma_golden(name), device, **options)


if __name__ == "__main__":
    for each in WRITTEN:
        written_gemma(each, Path(sys.argv[1]) / f"{each}.gguf")
