"""`gated` as an op."""

from typing import Any

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, j] = x[t, j] * act(gate[t, j // group]). Factory parameter act.
GATED = abi.Op(
    "gated", "gated", ("rows", "x", "ldx", "gate", "ldg", "y", "ldy", "width", "group")
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the product: GLU where the gate has as many columns as x."""
    value, gate = node.inputs
    x, opened, y = lowering.buffer(value), lowering.buffer(gate), lowering.new(node.outputs[0])
    common: dict[str, Any] = {
        "rows": ROW_WORDS[value.rows], "gate": opened, "ldg": opened.stride, "y": y,
        "ldy": y.stride, "width": value.width,
    }  # fmt: skip
    params, cost = {"act": node.attrs["act"]}, 20 * value.width
    if gate.width == value.width:
        lowering.planner.emit(
            abi.GLU, [x, opened], [y], cost=cost, params=params, up=x, ldu=x.stride, **common
        )
    else:
        lowering.planner.emit(
            GATED, [x, opened], [y], cost=cost, params=params, x=x, ldx=x.stride,
            group=value.width // gate.width, **common,
        )  # fmt: skip
