"""Constants of CUDA kernels, for tests of what NVIDIA's assembler makes of them."""

from gpu_attention import Form

from jitllm.kernels.cache_types import NAMES

Constants = tuple[int, ...]

ELEMENTS: dict[str, list[Constants]] = {
    "norm": [(0, 1, 0), (1, 1, 1)], "norm_rounded": [(0, 1, 0), (1, 1, 1)],
    "norm_added": [()], "rope_keep": [(1, 1, 1, 1), (1, 1, 0, 0), (0, 2, 0, 1)],
    "binary_rounded": [(2, 0), (2, 1), (3, 2)], "match_rms": [()], "gaussian_top": [()],
    "signed_root_dot": [()], "rope": [(0,), (1,)], "rope_behind": [(0,), (1,)],
    "unary": [*((op, 0) for op in range(7)), *((4, act) for act in range(1, 9))],
    "binary": [(0, 0), (1, 0), (2, 0), (2, 1), *((3, form) for form in range(4)), (4, 8)],
    "copy_heads": [()], "select_rows": [()], "weighted_add": [()], "weighted_sum": [(0,), (1,)],
    "square_sums": [(0,), (1,)],
    "route": [*((gating, 256, 8, 1, gating & 1, 0) for gating in range(5)), (0, 8, 2, 0, 0, 1)],
    "keep": [(keys, (4 * keys + 3) % len(NAMES)) for keys in range(len(NAMES))],
    "decay_gate": [(0,), (1,), (2,)], "softmax_mix": [(1, 0), (0, 0), (0, 1)],
    "stream_gates": [(4,)], "stream_read": [(4,)], "stream_write": [(4, 0), (4, 1)],
    "list_positions": [()], "whole_blocks": [()],
    "compress": [(1, 1, 4, 1, 128), (3, 8, 128, 0, 1024)],
    "index_scores": [(1, 128, 64, 1, 1)], "index_block_scores": [(1, 128, 128, 1)],
    "index_choose": [(1, 0), (128, 1)],
    "best": [(k, is_last) for k in (1, 64, 128) for is_last in (0, 1)], "draw": [()],
    "sparse_attention": [
        *((kind, kind, 576, 512, 1, 0, 0) for kind in range(1, len(NAMES))),
        *((keys, (4 * keys + 3) % len(NAMES), 128, 128, 0, 1, 1) for keys in range(len(NAMES))),
    ],
}  # fmt: skip
SCANS: dict[str, list[Constants]] = {
    "causal_conv": [(4, 1, 1), (2, 0, 0)],
    "ssm_scan": [(80, 1, 64, 128, 1, 1, 1), (48, 8, 64, 256, 1, 1, 0), (64, 64, 96, 96, 0, 0, 0)],
    "selective_scan": [(16,)],
    "delta_net": [(32, 16, 128, 128, 0, 0), (32, 32, 128, 128, 0, 1), (48, 16, 128, 128, 1, 0)],
    "wkv": [(0, 32, 32, 64, 64), (1, 64, 8, 64, 64), (2, 64, 64, 64, 64)],
    "lerp": [(1, 0), (1, 1)],
    "head_bonus": [()],
}
_PRODUCT = (0, 1, 0, 0, 1)  # bias and residual
PRODUCTS: dict[str, Constants] = {
    "quantize": (), "to_half": (0,), "group_rows": (32,), "embed.q4_k": (),
    "ngram_embed.q4_k": (3, 16), "matvec.q4_k": (1, 8, *_PRODUCT), "matvec_gated.q4_k": (2, 0),
    "matmul.q4_k": (32, 2, *_PRODUCT), "matmul_half.q4_k": (64, 1, *_PRODUCT),
    "matvec_float.f16": (1, 8, *_PRODUCT), "matmul_float.q4_k": (32, *_PRODUCT),
}  # fmt: skip
_FORM = Form(dk=128, dv=128).constants()
ATTENTION: dict[str, Constants] = {
    "attention": _FORM, "attention_tile": (*_FORM, 4, 1, 0), "attention_merge": (128, 32, 1, 1),
    "rotate_heads": (128, 128),
}  # fmt: skip


def one_of_each() -> dict[str, Constants]:
    """Return constants of every kernel, by its name."""
    first = {name: cases[0] for name, cases in (ELEMENTS | SCANS).items()}
    return first | PRODUCTS | ATTENTION
