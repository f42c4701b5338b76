"""`keep` as an op: the write of an attention alone."""

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.cpu_ops.attention import pages_of
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    k, v = (lowering.buffer(value) for value in node.inputs)
    where, pages, kind, _ = pages_of(lowering, node)
    lowering.new(node.outputs[0])
    lowering.planner.emit(
        abi.KV_WRITE, [k, v], [pages], cost=4 * (node.inputs[0].width + node.inputs[1].width),
        params={"kv": kind}, k=k, ldk=k.stride, v=v, ldv=v.stride, **where,
    )  # fmt: skip
