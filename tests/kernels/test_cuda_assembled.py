"""NVIDIA's assembler takes the kernels for all devices, and registers are enough for them."""

from pathlib import Path

import gpu_ptx
import pytest
from cuda_constants import ELEMENTS, one_of_each

from jitllm.kernels import cuda, formats

NEEDS_ASSEMBLER = pytest.mark.skipif(
    not gpu_ptx.assembler(), reason="no ptxas here: pip install nvidia-cuda-nvcc"
)


def _check(name: str, constants: tuple[int, ...], fmt: str = "") -> None:
    for cc in gpu_ptx.CAPABILITIES:
        usage = gpu_ptx.ptxas(name, constants, cc, fmt)
        assert (usage.spills, usage.stack) == (0, 0), (cc, constants, usage)


def test_every_kernel_is_assembled() -> None:
    files = {path.stem for path in Path(cuda.__file__).parent.glob("[a-z]*.py")}
    assert {name.partition(".")[0] for name in one_of_each()} == files


@NEEDS_ASSEMBLER
@pytest.mark.parametrize("name", one_of_each())
def test_one_of_each_spills_nothing(name: str) -> None:
    _check(name, one_of_each()[name])


@pytest.mark.slow
@NEEDS_ASSEMBLER
@pytest.mark.parametrize("name", ELEMENTS)
def test_kernels_spill_nothing(name: str) -> None:
    for constants in ELEMENTS[name]:
        _check(name, constants)


@pytest.mark.slow
@NEEDS_ASSEMBLER
@pytest.mark.parametrize("fmt", formats.names())
def test_embeddings_spill_nothing(fmt: str) -> None:
    _check("embed", (), fmt)
    if fmt in ("F32", "Q4_0", "Q6_K"):
        _check("ngram_embed", (3, 16), fmt)
