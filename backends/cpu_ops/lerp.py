"""`lerp` as an op."""

from jitllm.backends._cpu.constants import constant
from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, j] = a[t] + (b[t] - a[t]) * (factors[j] + shifts[t, j]) for m parts j of `width` columns;
# factors are rows of float32, ldf bytes apart. Factors or shifts may be 0.
LERP = abi.Op(
    "lerp",
    "lerp",
    ("rows", "a", "lda", "b", "ldb", "shifts", "lds", "factors", "ldf", "y", "ldy", "width", "m"),
)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    a, b, *more = (lowering.buffer(value) for value in node.inputs)
    y, width = lowering.new(node.outputs[0]), node.inputs[0].width
    shifts = more[0] if more else None
    factors, ldf = constant(lowering, node.attrs["factors"])
    lowering.planner.emit(
        LERP, [a, b, *more], [y], cost=3 * node.outputs[0].width,
        rows=ROW_WORDS[node.outputs[0].rows], a=a, lda=a.stride, b=b, ldb=b.stride,
        shifts=shifts or 0, lds=shifts.stride if shifts else 0, factors=factors, ldf=ldf, y=y,
        ldy=y.stride, width=width, m=node.outputs[0].width // width,
    )  # fmt: skip
