"""NVIDIA's assembler takes recurrent operations for all devices, and registers are enough."""

import gpu_ptx
import pytest
from cuda_constants import SCANS


@pytest.mark.slow
@pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc")
@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("name", SCANS)
def test_registers_are_enough(name: str, cc: tuple[int, int]) -> None:
    """The assembler may give up a few, so that more workgroups fit beside each other."""
    for constants in SCANS[name]:
        usage = gpu_ptx.ptxas(name, constants, cc)
        assert max(usage.spills, usage.stack) <= 32, (constants, usage)
        assert usage.registers <= 168, (constants, usage)
