"""NVIDIA's assembler takes recurrent operations for all devices, and registers are enough."""

import gpu_ptx
import pytest

CASES: dict[str, list[tuple[int, ...]]] = {
    "causal_conv": [(4, 1, 1), (2, 0, 0)],
    "ssm_scan": [(80, 1, 64, 128, 1, 1, 1), (48, 8, 64, 256, 1, 1, 0), (64, 64, 96, 96, 0, 0, 0)],
    "selective_scan": [(16,)],
    "delta_net": [(32, 16, 128, 128, 0, 0), (32, 32, 128, 128, 0, 1), (48, 16, 128, 128, 1, 0)],
    "wkv": [(0, 32, 32, 64, 64), (1, 64, 8, 64, 64), (2, 64, 64, 64, 64)],
    "lerp": [(1, 0), (1, 1)],
    "head_bonus": [()],
}


@pytest.mark.slow
@pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc")
@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("name", CASES)
def test_registers_are_enough(name: str, cc: tuple[int, int]) -> None:
    """The assembler may give up a few, so that more workgroups fit beside each other."""
    for constants in CASES[name]:
        usage = gpu_ptx.ptxas(name, constants, cc)
        assert max(usage.spills, usage.stack) <= 32, (constants, usage)
        assert usage.registers <= 168, (constants, usage)
