"""What NVIDIA's assembler makes of attention for every generation of GPUs."""

import gpu_ptx
import pytest
from gpu_attention import Form

from jitllm.kernels.cache_types import NAMES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc"),
]


def _check(name: str, constants: tuple[int, ...], cc: tuple[int, int], spills: int = 0) -> None:
    usage = gpu_ptx.ptxas(name, constants, cc)
    assert usage.spills <= spills and usage.stack <= spills
    assert usage.shared <= 48 * 1024


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("kv", ["f16", "bf16", "q8_0/q5_1", "iq4_nl"])
def test_any_form(kv: str, cc: tuple[int, int]) -> None:
    _check("attention", Form(kv=kv, dk=128, dv=128).constants(), cc)


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("parts", [1, 32])
@pytest.mark.parametrize("width", [64, 80, 96, 128])
def test_tiles(width: int, parts: int, cc: tuple[int, int]) -> None:
    """For 7.5 the assembler gives up a few registers so that more workgroups fit."""
    constants, spills = Form(dk=width, dv=width).constants(), 128 if cc < (8, 0) else 0
    _check("attention_tile", (*constants, 4, parts, 0), cc, spills)


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("width", [64, 128])
def test_tiles_without_a_cache_spill_little(width: int, cc: tuple[int, int]) -> None:
    form = Form(alone=True, causal=False, kv="f32", dk=width, dv=width)
    _check("attention_tile", (*form.constants(), 1, 1, 0), cc, 0 if width == 64 else 256)


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize("kv", NAMES)
def test_tiles_of_types_spill_little(kv: str, cc: tuple[int, int]) -> None:
    """The assembler may give up a few registers, here for any device."""
    spills = 0 if kv == "f16" else 128
    _check("attention_tile", (*Form(kv=kv).constants(), 4, 32, 0), cc, spills)


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
@pytest.mark.parametrize(("dk", "dv", "parts"), [(256, 256, 1), (256, 256, 32), (576, 512, 32)])
def test_wide_heads_spill_little(dk: int, dv: int, parts: int, cc: tuple[int, int]) -> None:
    """Sums of 256 columns are 128 registers of 255; what does not fit is read once a page."""
    constants = Form(dk=dk, dv=dv).constants()
    _check("attention_tile", (*constants, 8, parts, 0), cc, spills=400)


@pytest.mark.parametrize("cc", gpu_ptx.CAPABILITIES)
def test_merges_and_rotations(cc: tuple[int, int]) -> None:
    _check("attention_merge", (128, 32, 1, 1), cc)
    _check("rotate_heads", (128, 128), cc)
