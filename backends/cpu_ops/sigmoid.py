"""`sigmoid` by the kernel of activations."""

from jitllm.backends._cpu_lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the activation."""
    (value,) = node.inputs
    x, y = lowering.buffer(value), lowering.new(node.outputs[0])
    lowering.planner.emit(
        abi.ACTIVATION, [x], [y], cost=20 * value.width, params={"act": "sigmoid"},
        rows=ROW_WORDS[value.rows], x=x, ldx=x.stride, y=y, ldy=y.stride, width=value.width,
    )  # fmt: skip
