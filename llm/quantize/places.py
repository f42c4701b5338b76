"""What the names of tensors tell: which are matrices to quantize, what they do, in which layer."""

import re

_KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
    "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
    "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight",
    "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight",
    "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight",
    "time_mix_g2.weight", "time_mix_decay_w1.weight", "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd",
    "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook",
    "mm.a.code_embd",
)  # fmt: skip
_KEPT_WHOLE = ("position_embd.weight", "token_types.weight")
_KEPT_OF = {
    "glm5-next": (
        "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate",
        "indexer_compressor_ape", "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight",
        "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight",
        "attn_v_b.weight",
    ),
}  # fmt: skip
_PLACES = (
    ("value", ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")),
    ("key", ("attn_k.weight",)),
    ("query", ("attn_q.weight",)),
    ("attn_output", ("attn_output.weight",)),
    ("up", ("ffn_up",)),
    ("gate", ("ffn_gate",)),
    ("down", ("ffn_down",)),
)


def place(name: str) -> str:
    """Return the kind of place a tensor's name stands for: "output", "value", "down", ..."""
    if name == "output.weight":
        return "output"
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return "token_embd"
    return next((key for key, parts in _PLACES if any(p in name for p in parts)), "other")


def in_order(names: list[str]) -> list[str]:
    """Return tensor names in the order in which rules count them: by layer, then by name."""
    return sorted(names, key=lambda name: (layer_of(name), name.encode()))


def is_quantizable(name: str, shape: tuple[int, ...], architecture: str) -> bool:
    """Whether a tensor is a matrix that may be stored in another type."""
    n_dims = next((len(shape) - i for i, size in enumerate(shape) if size > 1), 1)
    kept = _KEPT + _KEPT_OF.get(architecture, ())
    return (
        n_dims >= 2
        and name.endswith("weight")
        and name not in _KEPT_WHOLE
        and not any(part in name for part in kept)
    )


def layer_of(name: str) -> int:
    """Return the layer that a tensor's name tells, -1 if it tells none."""
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
