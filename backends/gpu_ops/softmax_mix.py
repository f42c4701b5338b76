"""`softmax_mix`: a mean of values, weighted by the softmax of their scores."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit a step for each value; highest score and sum of weights are handed on."""
    n, out = len(node.inputs) // 2, node.outputs[0]
    y, memory = lowering.new(out), lowering.take(out.rows, 2 * n)
    for c, (value, score) in enumerate(zip(node.inputs[:n], node.inputs[n:], strict=True)):
        x, s = lowering.place(value), lowering.place(score)
        lowering.emit(
            "softmax_mix",
            [lowering.count(out.rows), x, s, memory.columns(2 * max(c - 1, 0)),
             memory.columns(2 * c), y],
            [x.stride, s.stride, memory.stride, y.stride, out.width], [memory, y],
            groups=-(-out.width // LANES), rows=out.rows, constants=(c == 0, c == n - 1),
        )  # fmt: skip
    lowering.give(memory)
