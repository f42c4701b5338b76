"""What LLVM and NVIDIA's assembler make of CUDA's matrix products."""

import gpu_ptx
import pytest

from jitllm.kernels import formats
from jitllm.kernels.gpu import compiler as gpu_compiler

NOTHING = (0, 0, 0, 0, 0)
ADDED = (0, 1, 0, 0, 1)  # bias and residual
ROUTED = (1, 1, 1, 1, 0)
NAMES, QUANTIZED = formats.names(), [name for name in formats.names() if formats.get(name).planes]
assembled = [
    pytest.mark.slow,
    pytest.mark.skipif(not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc"),
]


def _text(name: str, constants: tuple[int, ...], cc: tuple[int, int] = (9, 0)) -> str:
    return gpu_compiler.ptx(name, constants, cc).data.decode()


def test_few_rows_are_dot_products_of_wide_loads() -> None:
    text = _text("matvec.q4_k", (1, 8, *NOTHING))
    assert text.count("dp4a.s32.s32") == 32  # 4 rows, 8 words each
    assert text.count("ld.global.nc.L1::no_allocate.v4.b32") == 8  # a group, and the next
    assert ".local" not in text and "call" not in text


def test_many_rows_are_steps_of_tensor_cores() -> None:
    text = _text("matmul.q4_k", (64, 1, *NOTHING))
    assert text.count("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32") == 16  # 32 x 64 of a group
    assert text.count("ld.shared.v2.b32") == text.count("ld.shared.v4.b32") == 8
    assert ".local" not in text and "call" not in text


def test_many_rows_of_halves_are_steps_of_tensor_cores() -> None:
    text = _text("matmul_half.q4_k", (64, 1, *NOTHING))
    assert text.count("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") == 32
    assert text.count("fma.rn.f16x2") == 16  # scale and offset for two weights each
    assert ".local" not in text and "call" not in text


def _check(
    name: str, constants: tuple[int, ...], fmt: str = "",
    capabilities: tuple[tuple[int, int], ...] = gpu_ptx.CAPABILITIES,
) -> None:  # fmt: skip
    for cc in capabilities:
        usage = gpu_ptx.ptxas(name, constants, cc, fmt)
        assert usage.spills == usage.stack == 0, (cc, constants, usage)
        assert usage.shared <= 48 * 1024


@pytest.mark.parametrize("fmt", [pytest.param(name, marks=assembled) for name in QUANTIZED])
def test_products_of_codes(fmt: str) -> None:
    for tile in (1, 2, 4, 8):
        _check("matvec", (tile, 8, *ADDED), fmt)
    for tokens, split in ((16, 4), (32, 2), (64, 1)):
        _check("matmul", (tokens, split, *ADDED), fmt)
    _check("matvec", (1, 4, *ROUTED), fmt)
    for tokens, split in ((8, 4), (32, 1), (64, 1)):
        _check("matmul", (tokens, split, *ROUTED), fmt)


@pytest.mark.parametrize("fmt", [pytest.param(name, marks=assembled) for name in NAMES])
def test_products_of_floats(fmt: str) -> None:
    for tile in (1, 2, 4):
        _check("matvec_float", (tile, 8, *ADDED), fmt)
    for tokens in (32, 64):
        _check("matmul_float", (tokens, *ADDED), fmt)
    for flags in (ADDED, ROUTED):
        _check("matmul_half", (64, 1, *flags), fmt)
    if fmt in ("F16", "BF16"):
        for tokens, split in ((8, 4), (16, 4), (32, 2)):
            _check("matmul_half", (tokens, split, *ADDED), fmt)
        _check("matmul_half", (128, 1, *ADDED), fmt, ((8, 0), (9, 0)))  # only these take it
    _check("matvec_float", (1, 4, *ROUTED), fmt)
    _check("matmul_float", (32, *ROUTED), fmt)


@pytest.mark.parametrize(
    ("name", "constants"),
    [
        pytest.param(*x, marks=assembled)
        for x in (("quantize", ()), ("to_half", (0,)), ("to_half", (1,)), ("group_rows", (32,)))
    ],
)
def test_what_goes_before_products(name: str, constants: tuple[int, ...]) -> None:
    _check(name, constants)
