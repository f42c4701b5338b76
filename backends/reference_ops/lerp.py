"""`lerp` by its twin."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import wkv as reference_wkv


def run(run: Any, node: Node, a: Floats, b: Floats, shifts: Floats | None = None) -> Floats:
    """Return the points between a and b."""
    return reference_wkv.lerp(a, b, node.attrs["factors"], shifts)
