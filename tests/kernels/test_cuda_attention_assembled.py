"""What NVIDIA's assembler makes of attention: registers are enough, for every form and device."""

from collections.abc import Iterable
from typing import Any

import gpu_ptx
import numpy as np
import pytest
from cuda_attention_forms import Kernel, Sizes, kernels_of
from driver import simulate_cuda
from gpu_attention import Form

from jitllm.kernels.cache_types import FLOATS, NAMES

pytestmark = pytest.mark.skipif(
    not gpu_ptx.assembler(), reason="no ptxas: pip install nvidia-cuda-nvcc"
)
TABLE = np.zeros((8, 95), np.float32)
LATENT = Sizes(576, 512, group=16, kv_heads=1)
WIDTHS = 64, 72, 80, 96, 112, 128, 160, 192, 256, 512
SIZES = {
    **{str(width): Sizes(width, width) for width in WIDTHS},
    "192 and 128": Sizes(192, 128, group=1, kv_heads=8), "576 and 512": LATENT,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "sinks in a window": {"window": 100, "sinks": "sinks"},
    "chunks": {"window": 100, "chunked": True},
    "cap and sinks": {"soft_cap": 30.0, "sinks": "sinks"},
    "slopes and sinks": {"max_alibi_bias": 8.0, "sinks": "sinks"},
    "table": {"table": TABLE},
    "near both sides": {"causal": False, "window": 20, "table": TABLE},
    "alone": {"cache": False},
    "alone, near both sides": {"cache": False, "causal": False, "window": 20},
    "alone with slopes": {"cache": False, "causal": False, "max_alibi_bias": 8.0},
    "alone with table": {"cache": False, "causal": False, "table": TABLE},
}


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)


def _check(kernels: Iterable[Kernel]) -> None:
    for name, constants in sorted(kernels):
        for cc in gpu_ptx.CAPABILITIES:
            usage = gpu_ptx.ptxas(name, constants, cc)
            assert (usage.spills, usage.stack) == (0, 0), (name, constants, cc, usage)
            assert usage.shared <= 48 * 1024


def _quantizes(sizes: Sizes) -> bool:
    return not (sizes.dk % 32 or sizes.dv % 32)


def test_what_may_run() -> None:
    parts = [(*Form(dk=256, dv=256).constants(), 4, n, 0) for n in (128, 32, 8, 1)]
    merges = [(256, n, 0, 0) for n in (128, 32, 8)]
    assert kernels_of(Sizes(256, 256, pages=100)) == {
        *(("attention_tile", constants) for constants in parts),
        *(("attention_merge", constants) for constants in merges),
    }
    (whole,) = kernels_of(Sizes(64, 64), cache=False)
    assert whole == ("attention_tile", (*Form(alone=True, kv="f32").constants(), 4, 1, 0))
    assert {name for name, _ in kernels_of(Sizes(72, 72))} == {"attention"}


@pytest.mark.parametrize(("width", "kv", "parts"), [(128, "q8_0", 1), (256, "f16", 4)])
def test_often_used(width: int, kv: str, parts: int) -> None:
    kernels = {(name, c) for name, c in kernels_of(Sizes(width, width), kv) if c[-2] == parts}
    assert len(kernels) == 1
    _check(kernels)


@pytest.mark.slow
@pytest.mark.parametrize("kv", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_types(size: str, kv: str) -> None:
    if kv in FLOATS or _quantizes(SIZES[size]):
        _check(kernels_of(SIZES[size], kv))


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_options(size: str, option: str) -> None:
    sizes = SIZES[size]
    if "table" in OPTIONS[option] and sizes.group * sizes.kv_heads != len(TABLE):
        sizes = Sizes(sizes.dk, sizes.dv, group=8, kv_heads=1)
    _check(kernels_of(sizes, **OPTIONS[option]))


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kv", ["q8_0", "q5_1", "iq4_nl"])
def test_options_of_types(kv: str, option: str) -> None:
    if OPTIONS[option].get("cache", True):
        _check(kernels_of(SIZES["128"], kv, **OPTIONS[option]))


@pytest.mark.slow
@pytest.mark.parametrize("values", NAMES)
def test_keys_of_another_type(values: str) -> None:
    for keys in {"f16", "q8_0", "q5_1"} - {values}:
        _check(kernels_of(SIZES["128"], f"{keys}/{values}"))


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 3, 5, 7, 16, 20])
def test_other_numbers_of_heads(group: int) -> None:
    _check(kernels_of(Sizes(128, 128, group, pages=100)))
    _check(kernels_of(Sizes(256, 256, group, pages=100)))


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 4])
def test_cells_of_another_text(parts: int) -> None:
    """As decoders of encoders see them; cells are those of the encoder."""
    form = Form(causal=False, cross=1, table=TABLE)
    _check([("attention_tile", (*form.constants(), 1, parts, 0))])


@pytest.mark.slow
@pytest.mark.parametrize("kv", NAMES)
def test_exact(kv: str) -> None:
    for size in SIZES.values():
        if size.dk in (64, 128, 576) and (kv in FLOATS or _quantizes(size)):
            _check(kernels_of(size, kv, precision="exact"))


@pytest.mark.slow
def test_rotations() -> None:
    for width, size in ((64, 64), (96, 32), (128, 128), (192, 64), (576, 64)):
        _check([("rotate_heads", (width, size))])
