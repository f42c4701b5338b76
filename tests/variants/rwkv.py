"""Tiny random models of the RWKV family, with what llama.cpp gives for them.

`python -m variants.rwkv FOLDER` writes the files, and `recorders/rwkv.py`, run where llama_cpp is
installed, makes `data/variants_rwkv.npz` of them. It holds for each, of llama.cpp 0.5.0 with one
thread, tokens (79,) and logits (16, 101) of the last 16 positions: 71 tokens in one batch, then 8
single ones.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny import DATA, conformance_weights, write_gguf

from variants.rwkv_trained import byte_vocabulary, metadata

Floats = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]
Variant = tuple[int, int, dict[str, Any], Shapes]

VOCAB, FF, LAYERS = 101, 200, 3
# Size of what is not a matrix: centre and spread. The rest keeps the size of what goes through it.
_SPREADS = {
    r"token_embd\.weight": (0, 1),
    r".*lerp.*": (0.5, 0.3),
    r".*time_mix_(decay|w0|a0|v0)\.weight": (-0.5, 1.0),
    r".*time_mix_(first|r_k)\.weight": (0, 0.4),
    r".*\.bias": (0, 0.3),
}


def _bare(**shapes: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape for name, shape in shapes.items()}


def _biased(n: int, *names: str) -> Shapes:
    return {f"{name}.{kind}": (n,) for name in names for kind in ("weight", "bias")}


def _square(n: int, kv: int, *names: str) -> Shapes:
    sizes = {"key": kv, "value": kv}
    return {f"time_mix_{name}.weight": (sizes.get(name, n), n) for name in names}


def _rwkv6(n: int, kv: int, mix: int, decay: int) -> Shapes:
    return _bare(
        time_mix_w1=(5 * mix, n), time_mix_w2=(5, n, mix), time_mix_lerp_x=(1, 1, n),
        time_mix_lerp_fused=(5, 1, 1, n), time_mix_decay=(n,), time_mix_decay_w1=(decay, n),
        time_mix_decay_w2=(n, decay),
    ) | _square(n, kv, "key", "value", "receptance", "gate", "output")  # fmt: skip


def _rwkv7(n: int, ranks: dict[str, int], n_mixes: int) -> Shapes:
    shapes = _bare(time_mix_lerp_fused=(n_mixes, 1, 1, n))
    for letter, rank in ranks.items():
        shapes |= _bare(
            **{f"time_mix_{letter}1": (rank, n), f"time_mix_{letter}2": (n, rank)},
            **({} if letter == "g" else {f"time_mix_{letter}0": (n,)}),
        )
    shapes |= {f"time_mix_{name}.weight": (n,) for name in ("k_k", "k_a", "r_k")}
    return shapes | _square(n, n, "key", "value", "receptance", "output")


def _own_ends(n: int) -> Shapes:
    return _biased(n, "attn_norm", "attn_norm_2", "time_mix_ln") | _bare(
        channel_mix_lerp_k=(1, 1, n), channel_mix_key=(FF, n), channel_mix_value=(n, FF)
    )


def _qwen_ends(n: int) -> Shapes:
    return _bare(
        attn_norm=(n,), ffn_norm=(n,), ffn_gate=(FF, n), ffn_up=(FF, n), ffn_down=(n, FF)
    )  # fmt: skip


_GATE = _bare(channel_mix_lerp_r=(1, 1, 80), channel_mix_receptance=(80, 80))
_RANKS = {"w": 9, "a": 5, "v": 7, "g": 12}
_RWKV7 = {
    "attention.decay_lora_rank": 9, "attention.iclr_lora_rank": 5,
    "attention.value_residual_mix_lora_rank": 7, "attention.gate_lora_rank": 12,
}  # fmt: skip
_RWKV6 = {"time_mix_extra_dim": 7, "time_decay_extra_dim": 9}
_QWEN = {"token_shift_count": 1, "attention.layer_norm_rms_epsilon": 1e-6}
_LERPS = _bare(**{f"time_mix_lerp_{name}": (1, 1, 80) for name in "wkvrg"})

# Columns, size of a head, more keys, tensors of a layer. llama.cpp reads behind heads of RWKV-7
# whose size is no multiple of 64.
RWKV_VARIANTS: dict[str, Variant] = {
    "rwkv6": (80, 16, _RWKV6, _rwkv6(80, 80, 7, 9) | _own_ends(80) | _GATE
              | _bare(time_mix_first=(5, 16))),
    "rwkv6-halved": (80, 16, _RWKV6 | {"rescale_every_n_layers": 2},
                     {k: s for k, s in _rwkv6(80, 80, 7, 9).items() if "fused" not in k}
                     | _own_ends(80) | _GATE | _LERPS | _bare(time_mix_first=(5, 16))),
    "rwkv6qwen2": (128, 32, _RWKV6 | _QWEN | {"attention.head_count_kv": 2},
                   _rwkv6(128, 64, 7, 9) | _qwen_ends(128)
                   | {"time_mix_key.bias": (64,), "time_mix_value.bias": (64,),
                      "time_mix_receptance.bias": (128,)}),
    "rwkv6qwen2-plain": (96, 48, _RWKV6 | _QWEN, _rwkv6(96, 96, 7, 9) | _qwen_ends(96)),
    "rwkv7": (192, 64, _RWKV7, _rwkv7(192, _RANKS, 6) | _own_ends(192)),
    "arwkv7": (128, 64, _RWKV7 | _QWEN, _rwkv7(128, _RANKS, 6) | _qwen_ends(128)
               | _biased(128, "time_mix_ln")),
    "arwkv7-plain": (128, 64, _RWKV7 | _QWEN,
                     _rwkv7(128, {k: _RANKS[k] for k in "wav"}, 5) | _qwen_ends(128)),
}  # fmt: skip


def rwkv_model(name: str, path: str | Path, variant: Variant | None = None) -> Path:
    """Write the model `name`, or another of its architecture, to `path`, and return `path`."""
    n, size, keys, layer = variant or RWKV_VARIANTS[name]
    arch = name.partition("-")[0]
    shapes = _single(arch, n)
    for i in range(LAYERS):
        own = dict(layer)
        if i == 0 and "time_mix_v1.weight" in own:  # unused, of other ranks
            own |= {f"time_mix_v{k}.weight": own[f"time_mix_a{k}.weight"] for k in "012"}
        shapes |= {f"blk.{i}.{tensor}": shape for tensor, shape in own.items()}
    sizes = {
        "embedding_length": n, "block_count": LAYERS, "feed_forward_length": FF,
        "wkv.head_size": size,
    } | keys  # fmt: skip
    tensors = {tensor: _weights(tensor, shape) for tensor, shape in shapes.items()}
    return write_gguf(path, metadata(arch, sizes) | byte_vocabulary(VOCAB), tensors)


def _single(arch: str, n: int) -> Shapes:
    """The tensors that belong to no layer."""
    table = {"token_embd.weight": (VOCAB, n), "output.weight": (VOCAB, n)}
    if arch in ("rwkv6", "rwkv7"):
        return table | _biased(n, "token_embd_norm", "output_norm")
    bias = {"output_norm.bias": (n,)} if arch == "rwkv6qwen2" else {}
    return table | _bare(output_norm=(n,)) | bias


def _weights(name: str, shape: tuple[int, ...]) -> Floats:
    normal = conformance_weights(name, shape) * np.float32(10)
    for pattern, (centre, spread) in _SPREADS.items():
        if re.fullmatch(pattern, name):
            return np.float32(centre) + normal * np.float32(spread)
    if len(shape) == 1:
        return 1 + normal * np.float32(0.2)
    # what a token says about itself goes through two matrices, and is to matter
    gain = 2 if re.search(r"time_mix_(decay_)?[a-z][12]\.", name) else 1
    return normal * np.float32(gain / np.sqrt(shape[-1]))


def rwkv_golden(name: str) -> tuple[NDArray[np.int32], Floats]:
    """Tokens (79,) and logits (16, 101) of the last 16 positions of the model `name`."""
    with np.load(DATA / "variants_rwkv.npz") as golden:
        return golden[f"{name}/tokens"], golden[f"{name}/logits"]


if __name__ == "__main__":
    for each in RWKV_VARIANTS:
        rwkv_model(each, Path(sys.argv[1]) / f"{each}.gguf")
