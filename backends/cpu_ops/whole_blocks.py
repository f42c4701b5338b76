"""Positions of chosen blocks as an op."""

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

WHOLE_BLOCKS = abi.Op("sparse_index", "whole_blocks", ("x", "ldx", "most", "y", "ldy", "block"))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    x, y = lowering.buffer(node.inputs[0]), lowering.new(node.outputs[0])
    lowering.planner.emit(
        WHOLE_BLOCKS, [x], [y], cost=node.outputs[0].width, x=x, ldx=x.stride,
        most=node.inputs[0].width, y=y, ldy=y.stride, **node.attrs,
    )  # fmt: skip
