"""`weighted_add`: values added to another, each times one column of the gates."""

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit one sum after the other."""
    (value, gates, *sources), y = node.inputs, lowering.new(node.outputs[0])
    so_far = lowering.place(value)
    for j, source in enumerate(sources):
        gate = lowering.place(gates).columns(node.attrs["start"] + j)
        added = lowering.place(source)
        lowering.emit(
            "weighted_add", [lowering.count(value.rows), so_far, gate, added, y],
            [so_far.stride, gate.stride, added.stride, y.stride, value.width,
             float(node.attrs["shift"])],
            [y], groups=-(-value.width // LANES), rows=value.rows,
        )  # fmt: skip
        so_far = y
