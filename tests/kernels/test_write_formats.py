"""Quantizing in NumPy: equal to the gguf package where that writes, near llama.cpp elsewhere."""

import importlib
from typing import Any

import numpy as np
import pytest
from blocks import quantize, random_blocks

from jitllm.kernels import formats
from jitllm.kernels.formats._lattice import without_signs

PLAIN = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 TQ1_0 TQ2_0 MXFP4".split()
# What ggml_quantize_chunk left as root mean square error on `sample` (llama-cpp-python 0.3.36),
# without and with the importance of `columns`, in which errors are weighed.
LLAMA_CPP = {
    "Q4_0": (0.130489, 0.155989),
    "Q4_1": (0.108844, 0.119603),
    "Q5_0": (0.065062, 0.077765),
    "Q5_1": (0.052687, 0.057777),
    "Q2_K": (0.401820, 0.431380),
    "Q3_K": (0.212621, 0.251199),
    "Q4_K": (0.100350, 0.121980),
    "Q5_K": (0.050809, 0.061415),
    "Q6_K": (0.026196, 0.031552),
    "IQ4_NL": (0.107896, 0.130393),
    "IQ4_XS": (0.108835, 0.131991),
    "IQ1_S": (np.inf, 0.809020),  # it does not write this one without importance
    "IQ1_M": (0.724967, 0.703236),
    "IQ2_XXS": (np.inf, 0.563984),
    "IQ2_XS": (np.inf, 0.479345),
    "IQ2_S": (0.388759, 0.427731),
    "IQ3_XXS": (0.295744, 0.283626),
    "IQ3_S": (0.231866, 0.226665),
    "NVFP4": (0.113539, 0.141976),
}
LATTICES = tuple(name for name in LLAMA_CPP if name[:3] in ("IQ1", "IQ2", "IQ3"))
# Largest root of the sum of square errors over the number of weights, 4096, for a rough cosine:
# the limits of llama.cpp's test-quantize-fns, which has none for types that need importance.
COSINE = {
    "Q2_K": 0.0075, "IQ2_S": 0.0075, "Q3_K": 0.0040, "IQ3_S": 0.0040, "IQ3_XXS": 0.0050,
    "MXFP4": 0.003, "NVFP4": 0.003, "TQ1_0": 0.01, "TQ2_0": 0.01, "Q2_0": 0.01, "Q1_0": 0.025,
    "IQ2_XS": 0.0075, "IQ2_XXS": 0.0075, "IQ1_S": 0.01, "IQ1_M": 0.01,
}  # fmt: skip


def sample() -> tuple[Any, Any]:
    """Weights, float32 [96, 1024], half of them with outliers, and their columns' importance."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((48, 1024)), rng.standard_t(4, (48, 1024))])
    return x.astype(np.float32), rng.uniform(0.1, 3, 1024).astype(np.float32)


def written(name: str, x: Any, importance: Any = None) -> Any:
    """`x` after a trip through a format."""
    data = formats.quantize(name, x, importance)
    assert data.dtype == np.uint8 and data.shape[:-1] == x.shape[:-1]
    return formats.dequantize(name, data.reshape(-1), x.shape)


@pytest.mark.parametrize("name", PLAIN)
def test_bytes_of_the_gguf_package(name: str) -> None:
    x = sample()[0][40:56]
    x[3], x[4, :40] = 0, -1.5
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = quantize(name, x)
    assert np.array_equal(formats.quantize(name, x), expected)


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_error_is_like_that_of_llama_cpp(name: str) -> None:
    x, columns = sample()
    plain, weighed = LLAMA_CPP[name]
    assert np.sqrt(np.mean((written(name, x) - x) ** 2)) < 1.005 * plain
    error = columns * (written(name, x, columns) - x) ** 2
    assert np.sqrt(error.mean()) < (0.99 if name in LATTICES else 1.006) * weighed


@pytest.mark.parametrize("name", [name for name in formats.writable() if name != "F32"])
def test_cosine(name: str) -> None:
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32)[None]
    error = np.sqrt(((written(name, x) - x) ** 2).sum()) / x.size
    assert error <= COSINE.get(name, 0.002)


@pytest.mark.parametrize("name", LATTICES)
def test_what_a_lattice_holds_comes_back(name: str) -> None:
    fmt = formats.get(name)
    blocks = random_blocks(name, 40, np.random.default_rng(2))
    x = formats.dequantize(name, blocks, (40, fmt.block_size))
    off = written(name, x) - x
    # d and the small scales may be others
    assert np.sqrt((off**2).mean()) < (0.25 if "IQ1" in name else 0.05) * np.sqrt((x**2).mean())


@pytest.mark.parametrize("name", LATTICES)
def test_no_other_point_of_a_lattice_is_nearer(name: str) -> None:
    fmt = formats.get(name)
    lattice: Any = importlib.import_module(f"jitllm.kernels.formats.{name.lower()}").LATTICE
    rng = np.random.default_rng(4)
    dim = lattice.grid.shape[1]
    x = rng.standard_normal((32, dim)).astype(np.float32)
    weight = rng.uniform(0.5, 2, x.shape).astype(np.float32)
    scale = np.full(32, 0.5, np.float32)
    numbers, shifts = lattice.nearest(weight * x, weight, scale)
    off = x[:, None, None] - scale[:, None, None, None] * lattice.points
    error = (weight[:, None, None] * off**2).sum(axis=-1)  # [parts, shifts, points]
    least = error.min(axis=-1).reshape(-1, lattice.shared, len(lattice.shifts)).sum(axis=1)
    got = error[np.arange(32), shifts, numbers].reshape(-1, lattice.shared).sum(axis=1)
    assert np.allclose(got, least.min(axis=-1), rtol=1e-5) and fmt.scales == "k_d"


@pytest.mark.parametrize("even", [False, True])
def test_signs(even: bool) -> None:
    x = np.random.default_rng(5).standard_normal((6, 32)).astype(np.float32)
    size, signs = without_signs(x, np.ones_like(x), even)
    minus = np.unpackbits(signs, axis=-1, bitorder="little")
    assert np.array_equal(np.where(minus, -size, size), x)
    wrong = (size < 0).reshape(-1, 8)
    odd = (x < 0).reshape(-1, 8).sum(axis=-1) % 2 == 1
    assert np.array_equal(wrong.sum(axis=-1), odd if even else 0 * odd)
    least = np.abs(x).reshape(-1, 8).argmin(axis=-1)
    assert (wrong.argmax(axis=-1) == least)[odd].all() or not even


@pytest.mark.parametrize(("name", "step"), [("Q1_0", 0.75), ("Q2_0", 1.0)])
def test_few_levels(name: str, step: float) -> None:
    x = np.tile(np.array([1, -1, 0.5, -0.5], np.float32), (2, 64))
    nearest = np.sign(x) if name == "Q1_0" else np.trunc(x + 0.5 * np.sign(x))
    assert np.array_equal(written(name, x), step * nearest)


@pytest.mark.parametrize("name", formats.writable())
def test_extreme_rows(name: str) -> None:
    x = np.zeros((6, 256), np.float32)
    x[1], x[2], x[3], x[4, 5], x[5] = 1, -2, 1e-40, 3, -1e-7
    for importance in (None, np.zeros(256, np.float32)):
        y = written(name, x, importance)
        assert np.isfinite(y).all() and not y[0].any()
    y = written(name, x)
    # a lattice has few points for rows of one value
    near = 0.4 if name in LATTICES else 0.2
    assert np.allclose(y[1:3], x[1:3], rtol=near) and np.abs(y[3]).max() < 1e-30


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "BF16"])
def test_shape_is_kept(name: str) -> None:
    x = sample()[0][:6]
    data = formats.quantize(name, x.reshape(2, 3, 1024))
    assert data.shape[:2] == (2, 3)
    assert np.array_equal(data.reshape(6, -1), formats.quantize(name, x))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"type to write must be one of .*'Q4_K'.*got 'Q8_K'"):
        formats.quantize("Q8_K", np.zeros((1, 256), np.float32))
    with pytest.raises(ValueError, match="Q4_K must be whole blocks of 256, got 96"):
        formats.quantize("Q4_K", np.zeros((1, 96), np.float32))
