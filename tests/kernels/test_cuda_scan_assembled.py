"""NVIDIA's assembler takes recurrent operations for all devices, and registers are enough."""

import gpu_ptx
import pytest
from cuda_constants import SCANS


@pytest.mark.slow
@pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc")
@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("name", SCANS)
def test_registers_are_enough(name: str, cc: tuple[int, int]) -> None:
    for constants in SCANS[name]:
        usage = gpu_ptx.ptxas(name, constants, cc)
        assert (usage.spills, usage.stack) == (0, 0), (constants, usage)
        assert usage.registers <= 168, (constants, usage)
