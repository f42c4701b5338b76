"""`lerp`: points between two values."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit all points at once."""
    out, factors = node.outputs[0], lowering.constant(node.attrs["factors"])
    a, b, *more = (lowering.place(value) for value in node.inputs)
    y, shifts = lowering.new(out), more[0] if more else None
    lowering.emit(
        "lerp", [lowering.count(out.rows), a, b, shifts, factors, y],
        [a.stride, b.stride, shifts.stride if shifts else 0, y.stride, node.inputs[0].width,
         out.width],
        [y], groups=-(-out.width // LANES), rows=out.rows,
        constants=(factors is not None, shifts is not None),
    )  # fmt: skip
