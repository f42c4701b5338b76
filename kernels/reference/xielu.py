"""Twin of `cpu.xielu`."""

import numpy as np

from jitllm.kernels.reference.weights import Floats


def xielu(x: Floats, *, alpha_p: float, alpha_n: float, beta: float, eps: float) -> Floats:
    """Return alpha_p x^2 + beta x where x > 0, else alpha_n (e^min(x, eps) - 1 - x) + beta x.

    Huang and Schlag, "Deriving Activation Functions Using Integration", 2024.
    """
    z = x.astype(np.float64)
    below = alpha_n * (np.expm1(np.minimum(z, eps)) - z)
    y: Floats = (np.where(z > 0, alpha_p * z * z, below) + beta * z).astype(np.float32)
    return y
