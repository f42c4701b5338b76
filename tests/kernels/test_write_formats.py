"""Quantizing in NumPy: equal to the gguf package where that writes, near llama.cpp elsewhere."""

from typing import Any

import numpy as np
import pytest
from blocks import quantize

from jitllm.kernels import formats

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
}
# Largest root mean square error over the root of 4096 weights, for a rough cosine.
COSINE = {"Q2_K": 0.0075, "Q3_K": 0.0040, "MXFP4": 0.003, "TQ1_0": 0.01, "TQ2_0": 0.01}


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
    assert np.sqrt(error.mean()) < 1.015 * weighed


@pytest.mark.parametrize("name", [*LLAMA_CPP, *PLAIN])
def test_cosine(name: str) -> None:
    x = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32)[None]
    error = np.sqrt(((written(name, x) - x) ** 2).sum()) / x.size
    assert error <= COSINE.get(name, 0.002)


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
    assert np.allclose(y[1:3], x[1:3], rtol=0.2) and np.abs(y[3]).max() < 1e-30


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "BF16"])
def test_shape_is_kept(name: str) -> None:
    x = sample()[0][:6]
    data = formats.quantize(name, x.reshape(2, 3, 1024))
    assert data.shape[:2] == (2, 3)
    assert np.array_equal(data.reshape(6, -1), formats.quantize(name, x))


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"type to write must be one of .*'Q4_K'.*got 'IQ2_S'"):
        formats.quantize("IQ2_S", np.zeros((1, 256), np.float32))
    with pytest.raises(ValueError, match="Q4_K must be whole blocks of 256, got 96"):
        formats.quantize("Q4_K", np.zeros((1, 96), np.float32))
