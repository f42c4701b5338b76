"""`stream_gates`: how residual streams are read, written and mixed."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op: a workgroup for a row."""
    (value,), attrs = node.inputs, node.attrs
    x, y = lowering.place(value), lowering.new(node.outputs[0])
    scale, base = lowering.constant(attrs["scale"]), lowering.constant(attrs["base"])
    numbers = (float(attrs[name]) for name in ("eps", "magnitude", "post_eps"))
    lowering.emit(
        "stream_gates", [lowering.count(value.rows), x, scale, base, y],
        [x.stride, y.stride, value.width, attrs["iterations"], *numbers], [y], groups=1,
        rows=value.rows, constants=(attrs["n_streams"],),
    )  # fmt: skip
