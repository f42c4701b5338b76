"""Gated units within bounds against their twin, and against what they say."""

import math

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.cpu_ops.bounded_glu import BOUNDED_GLU
from jitllm.kernels import abi, host
from jitllm.kernels.reference import gated as reference_gated

FORMS = sorted(reference_gated.FORMS)


def _unit(gate: np.ndarray, up: np.ndarray, act: str, bounds: tuple[float, float]) -> np.ndarray:
    x, other = rows_of(gate), rows_of(up)
    y = host.empty_rows(*gate.shape)
    host.launch(
        BOUNDED_GLU, run_block(len(gate)), params={"act": act}, rows=abi.N_TOKENS,
        gate=x.ctypes.data, ldg=x.strides[0], up=other.ctypes.data, ldu=other.strides[0],
        y=y.ctypes.data, ldy=y.strides[0], width=gate.shape[1], a=bounds[0], b=bounds[1],
    )  # fmt: skip
    return y


@pytest.mark.parametrize("act", FORMS)
@pytest.mark.parametrize("bounds", [(7.0, 1.702), (0.5, 0.0), (4.0, 25.0)])
def test_units_equal_their_twin(act: str, bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    gate, up = (6 * rng.standard_normal((9, 50), np.float32) for _ in range(2))
    gate[0, :4], up[0, :4] = (100, -100, 0, 3), (-100, 100, 3, 0)
    expected = reference_gated.bounded_glu(gate, up, act, bounds)
    for n_threads in (1, 2):
        with host.threads(n_threads):
            y = _unit(gate, up, act, bounds)
        np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("act", "gate", "up", "expected"),
    [
        ("swiglu_clamp", 9.0, -9.0, 2 / (1 + math.exp(-2)) * -2),
        ("swiglu_limit", 9.0, -9.0, -4.0),
        ("swiglu_limit", 1.0, 1.5, 1.5 / (1 + math.exp(-1))),
        ("swiglu_oai", 9.0, -9.0, 2 / (1 + math.exp(-6)) * -1),
        ("situ", 2.0, 3.0, 2 * math.tanh(1) / (1 + math.exp(-2)) * 3 * math.tanh(1)),
    ],
)
def test_values(act: str, gate: float, up: float, expected: float) -> None:
    x, y = np.full((1, 1), gate, np.float32), np.full((1, 1), up, np.float32)
    assert _unit(x, y, act, (2.0, 3.0))[0, 0] == pytest.approx(expected, rel=2e-6)
    got = reference_gated.bounded_glu(x, y, act, (2.0, 3.0))
    assert got[0, 0] == pytest.approx(expected, rel=1e-6)


def test_unknown_forms() -> None:
    x = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="act must be one of"):
        _unit(x, x, "silu", (1.0, 1.0))
    with pytest.raises(ValueError, match="act must be one of"):
        reference_gated.bounded_glu(x, x, "silu", (1.0, 1.0))
