"""Activations against their twins and against exact values at the ends of the range."""

import numpy as np
import pytest

from jitllm.kernels import host, reference

TWINS = ["silu", "gelu", "gelu_erf", "relu"]


def _range(width: int) -> np.ndarray:
    x = np.linspace(-30, 30, 6 * width, dtype=np.float32)
    return np.random.default_rng(width).permutation(x).reshape(6, width)


@pytest.mark.parametrize("act", TWINS)
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 63, 100, 1000])
def test_activation_equals_twin(act: str, width: int) -> None:
    x = _range(width)
    actual, expected = host.activation(x, act), reference.activation(x, act)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("act", TWINS)
@pytest.mark.parametrize("width", [1, 17, 1000])
def test_glu_equals_twin(act: str, width: int) -> None:
    gate, up = _range(width), _range(width)[::-1].copy()
    expected = reference.glu(gate, up, act)
    np.testing.assert_allclose(host.glu(gate, up, act), expected, rtol=1e-6, atol=3e-5)


@pytest.mark.parametrize(
    ("act", "twin"),
    [
        ("gelu_quick", lambda x: x / (1 + np.exp(-1.702 * x))),
        ("relu_squared", lambda x: np.maximum(x, 0) ** 2),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
    ],
)
def test_other_activations(act: str, twin: object) -> None:
    x = _range(100)
    expected = twin(x.astype(np.float64))  # type: ignore[operator]
    np.testing.assert_allclose(host.activation(x, act), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("act", [*TWINS, "gelu_quick", "relu_squared", "sigmoid", "tanh"])
def test_large_values_saturate_and_nan_stays(act: str) -> None:
    x = np.array([[-1e4, 1e4, np.nan]], np.float32)
    y = host.activation(x, act)[0]
    low, high = {
        "relu_squared": (0, 1e8),
        "sigmoid": (0, 1),
        "tanh": (-1, 1),
    }.get(act, (0, 1e4))  # fmt: skip
    assert (y[0], y[1]) == (low, high) and np.isnan(y[2])


def test_bits_do_not_depend_on_batch_or_threads() -> None:
    gate, up = _range(5000), _range(5000)[::-1].copy()
    whole = host.glu(gate, up, "gelu_erf")
    with host.threads(2):
        assert np.array_equal(host.glu(gate, up, "gelu_erf"), whole)
    for i in range(len(gate)):
        assert np.array_equal(
            host.glu(gate[i : i + 1], up[i : i + 1], "gelu_erf"), whole[i : i + 1]
        )


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="act must be one of .*'silu'.*, got 'swoosh'"):
        host.activation(_range(3), "swoosh")
