"""`head_bonus`: what a token adds to its own output, head by head."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    out, heads = node.outputs[0], node.attrs["n_heads"]
    rows, y = [lowering.place(value) for value in node.inputs], lowering.new(out)
    lowering.emit(
        "head_bonus",
        [lowering.count(out.rows), *rows, lowering.constant(node.attrs["factors"]), y],
        [*(x.stride for x in rows), y.stride, node.inputs[2].width // heads, out.width // heads],
        [y], groups=heads, rows=out.rows,
    )  # fmt: skip
