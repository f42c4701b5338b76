"""`selective_scan`: a state space for each column, with a decay for each element."""

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels.reference.ssm import in_blocks


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the scan."""
    attrs, width, size = node.attrs, node.outputs[0].width, node.inputs[1].width
    x, b, c, step = (lowering.place(value) for value in node.inputs)
    y, (states, slot_bytes) = lowering.new(node.outputs[0]), lowering.state(node)
    a, d = lowering.constant(in_blocks(attrs["a"])), lowering.constant(attrs["d"])
    lowering.emit(
        "selective_scan", [Place("run", 0, 0), x, b, c, step, y, a, d, states],
        [x.stride, b.stride, c.stride, step.stride, y.stride, width, slot_bytes], [y, states],
        groups=-(-width // LANES), rows="T", constants=(size,),
    )  # fmt: skip
