"""Positions that need no choice as an op."""

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

LIST_POSITIONS = abi.Op("sparse_index", "lists", ("y", "ldy", "most", "window", "stride"))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    y, most = lowering.new(node.outputs[0]), node.outputs[0].width
    lowering.planner.emit(
        LIST_POSITIONS, [], [y], cost=most, y=y, ldy=y.stride, most=most, **node.attrs
    )
