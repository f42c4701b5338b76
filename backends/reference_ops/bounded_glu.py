"""Gated units within bounds."""

from typing import Any

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import gated as reference_gated


def run(run: Any, node: Node, gate: Floats, up: Floats) -> Floats:
    """Return the unit `act` of gate and up, both [rows, width]."""
    return reference_gated.bounded_glu(gate, up, node.attrs["act"], node.attrs["bounds"])
