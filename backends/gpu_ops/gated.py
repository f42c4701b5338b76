"""`gated`: x * act(gate), a column of gate for several of x."""

from jitllm.backends._gpu.core import GATED
from jitllm.backends._gpu.lower import ACTIVATIONS, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product."""
    x, gate = node.inputs
    opened, y = lowering.place(gate), lowering.new(node.outputs[0])
    lowering.binary(
        GATED, lowering.place(x), opened, y, x.width, x.rows, ldb=opened.stride,
        part=x.width // gate.width, act=ACTIVATIONS.index(node.attrs["act"]),
    )  # fmt: skip
