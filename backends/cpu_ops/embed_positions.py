"""`embed_positions` as an op: that of `embed`, told to read positions."""

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    w, y = lowering.weights[node.weights[0]], lowering.new(node.outputs[0])
    lowering.planner.emit(
        abi.EMBED, [], [y], cost=32 * w.k, params={"fmt": w.type_name, "by": "positions"},
        w=w.address, k=w.k, y=y, ldy=y.stride,
    )  # fmt: skip
