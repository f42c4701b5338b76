"""NVIDIA's assembler takes the kernels for all devices, and registers are enough for them."""

import gpu_ptx
import pytest

from jitllm.kernels import formats
from jitllm.kernels.cache_types import NAMES

CASES: dict[str, list[tuple[int, ...]]] = {
    "norm": [(0, 1, 0), (1, 1, 1)], "norm_rounded": [(0, 1, 0), (1, 1, 1)],
    "binary_rounded": [(2, 0), (2, 1), (3, 2)], "match_rms": [()], "gaussian_top": [()],
    "signed_root_dot": [()], "rope": [(0,), (1,)], "rope_behind": [(0,), (1,)],
    "unary": [*((op, 0) for op in range(7)), *((4, act) for act in range(1, 9))],
    "binary": [(0, 0), (1, 0), (2, 0), (2, 1), *((3, form) for form in range(4)), (4, 8)],
    "copy_heads": [()], "select_rows": [()], "weighted_add": [()], "weighted_sum": [(0,), (1,)],
    "route": [*((gating, 256, 8, 1, gating & 1, 0) for gating in range(5)), (0, 8, 2, 0, 0, 1)],
    "keep": [(keys, (4 * keys + 3) % len(NAMES)) for keys in range(len(NAMES))],
    "decay_gate": [(0,), (1,), (2,)], "softmax_mix": [(1, 0), (0, 0), (0, 1)],
    "stream_gates": [(4,)], "stream_read": [(4,)], "stream_write": [(4, 0), (4, 1)],
    "list_positions": [()], "whole_blocks": [()], "compress": [(1, 1, 4, 1), (0, 2, 128, 0)],
    "index_scores": [(1, 128, 64, 1, 1)], "index_block_scores": [(1, 128, 128, 1)],
    "index_choose": [(1, 0), (128, 1)],
    "best": [(k, is_last) for k in (1, 64, 128) for is_last in (0, 1)],
    "sparse_attention": [(1, 1, 576, 512, 1, 0, 0), (1, 1, 128, 128, 0, 1, 1)],
}  # fmt: skip


def _check(name: str, constants: tuple[int, ...], fmt: str = "") -> None:
    for cc in gpu_ptx.CAPABILITIES:
        usage = gpu_ptx.ptxas(name, constants, cc, fmt)
        assert (usage.spills, usage.stack) == (0, 0), (cc, constants, usage)


@pytest.mark.slow
@pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas here: pip install nvidia-cuda-nvcc")
@pytest.mark.parametrize("name", CASES)
def test_kernels_spill_nothing(name: str) -> None:
    for constants in CASES[name]:
        _check(name, constants)


@pytest.mark.slow
@pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas here: pip install nvidia-cuda-nvcc")
@pytest.mark.parametrize("fmt", formats.names())
def test_embeddings_spill_nothing(fmt: str) -> None:
    _check("embed", (), fmt)
    if fmt in ("F32", "Q4_0", "Q6_K"):
        _check("ngram_embed", (3, 16), fmt)
