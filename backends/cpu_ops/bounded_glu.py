"""Gated units within bounds."""

from typing import TYPE_CHECKING

from jitllm.backends._cpu.plan import Buffer, Planner
from jitllm.backends.ir import Node
from jitllm.kernels import abi

if TYPE_CHECKING:
    from jitllm.backends._cpu.lower import Lowering

# y = form(gate, up, a, b); factory parameter act: a form of `kernels/cpu/bounded_glu.py`.
BOUNDED_GLU = abi.Op(
    "bounded_glu",
    "bounded_glu",
    tuple("rows gate ldg up ldu y ldy width a:f32 b:f32".split()),
)


def lower(lowering: "Lowering", node: Node) -> None:
    """Emit the op of a node."""
    gate, up = (lowering.buffer(value) for value in node.inputs)
    out = node.outputs[0]
    rows = abi.N_TOKENS if out.rows == "T" else abi.N_OUTPUTS
    act, bounds = node.attrs["act"], node.attrs["bounds"]
    emit(lowering.planner, rows, gate, up, lowering.new(out), out.width, act, bounds)


def emit(
    planner: Planner, rows: int, gate: Buffer, up: Buffer, y: Buffer, width: int, act: str,
    bounds: tuple[float, float],
) -> None:  # fmt: skip
    """Emit the op for buffers; `rows` is the run word that counts their rows."""
    planner.emit(
        BOUNDED_GLU, [gate, up], [y], cost=30 * width, params={"act": act}, rows=rows, gate=gate,
        ldg=gate.stride, up=up, ldu=up.stride, y=y, ldy=y.stride, width=width, a=bounds[0],
        b=bounds[1],
    )  # fmt: skip
