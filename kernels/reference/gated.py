"""Twin of `cpu.bounded_glu`: gated units whose halves are held within bounds."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def _sigmoid(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def _swiglu_oai(gate: Doubles, up: Doubles, a: float, b: float) -> Doubles:
    x = np.minimum(gate, a)
    return np.asarray(x * _sigmoid(b * x) * (np.clip(up, -a, a) + 1))


def _situ(gate: Doubles, up: Doubles, a: float, b: float) -> Doubles:
    up = b * np.tanh(up / b) if b > 0 else up
    return np.asarray(a * np.tanh(gate / a) * _sigmoid(gate) * up)


def _swiglu_clamp(gate: Doubles, up: Doubles, a: float, b: float) -> Doubles:
    x = np.minimum(gate, a)
    return np.asarray(x * _sigmoid(x) * np.clip(up, -a, a))


def _swiglu_limit(gate: Doubles, up: Doubles, a: float, b: float) -> Doubles:
    return np.asarray(np.minimum(gate * _sigmoid(gate), a) * np.clip(up, -a, a))


FORMS: dict[str, Callable[[Doubles, Doubles, float, float], Doubles]] = {
    "swiglu_clamp": _swiglu_clamp,
    "swiglu_limit": _swiglu_limit,
    "swiglu_oai": _swiglu_oai,
    "situ": _situ,
}


def bounded_glu(gate: Floats, up: Floats, act: str, bounds: tuple[float, float]) -> Floats:
    """Return the gated unit of gate and up, float32 arrays of one shape.

    Parameters
    ----------
    gate, up : float32 array
    act : str
        With (a, b) = bounds: "swiglu_clamp": silu(min(gate, a)) * clip(up, -a, a);
        "swiglu_limit": min(silu(gate), a) * clip(up, -a, a); "swiglu_oai": x sigmoid(b x) *
        (clip(up, -a, a) + 1), x = min(gate, a) (OpenAI, "gpt-oss model card", 2025); "situ":
        a tanh(gate / a) sigmoid(gate) * b tanh(up / b), or * up where b is 0.
    bounds : (float, float)

    Raises
    ------
    ValueError
        If `act` is none of these.
    """
    if act not in FORMS:
        raise ValueError(f"act must be one of {sorted(FORMS)}, got {act!r}")
    doubles = gate.astype(np.float64), up.astype(np.float64)
    return FORMS[act](*doubles, *bounds).astype(np.float32)
