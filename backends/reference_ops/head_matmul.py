"""`head_matmul` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import heads as reference_heads


def run(run: Any, node: Node, x: Floats) -> Floats:
    """Return y[t, h] = w[h] x[t, h]."""
    w, n_heads = run.backend.weights[node.weights[0]], node.attrs["n_heads"]
    n, k = node.outputs[0].width // n_heads, w.shape[-1]
    return reference_heads.head_matmul(
        x, w.type_name, w.data, (n_heads, n, k), precision=run.backend.precision
    )
