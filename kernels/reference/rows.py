"""Twins of kernels on rows: bounds, and layer norms of heads. See `reference`."""

import numpy as np

from jitllm.kernels.reference import layer_norm
from jitllm.kernels.reference.weights import Floats


def clamp(x: Floats, bound: float) -> Floats:
    """Return min(max(x, -bound), bound), the bound rounded to float32; NaN stays NaN."""
    limit = np.float32(bound)
    y: Floats = np.clip(x, -limit, limit)
    return y


def head_layer_norm(x: Floats, group: int, eps: float) -> Floats:
    """Return (x - mean) / sqrt(var + eps) over each `group` columns of x [T, width]."""
    return layer_norm(x.reshape(-1, group), None, None, eps).reshape(x.shape)
