"""`signed_root_dot`: signed roots of products of two values' rows."""

from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op: a workgroup for each group of columns."""
    value, n_groups = node.inputs[0], node.attrs["n_groups"]
    a, b = (lowering.place(x) for x in node.inputs)
    y = lowering.new(node.outputs[0])
    lowering.emit(
        "signed_root_dot", [lowering.count(value.rows), a, b, y],
        [a.stride, b.stride, y.stride, value.width // n_groups, float(node.attrs["scale"])], [y],
        groups=n_groups, rows=value.rows,
    )  # fmt: skip
