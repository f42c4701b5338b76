"""`signed_root_dot` as an op."""

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, g] = sign(d) sqrt(max(|d|, 1e-6)), d = scale * (a . b) over columns from g * width on.
SIGNED_ROOT_DOT = abi.Op(
    "row_dot", "signed_root_dot",
    ("rows", "a", "lda", "b", "ldb", "y", "ldy", "width", "n_groups", "scale:f32"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    value, n_groups = node.inputs[0], node.attrs["n_groups"]
    a, b = (lowering.buffer(x) for x in node.inputs)
    y = lowering.new(node.outputs[0])
    lowering.planner.emit(
        SIGNED_ROOT_DOT, [a, b], [y], cost=value.width, rows=ROW_WORDS[value.rows], a=a,
        lda=a.stride, b=b, ldb=b.stride, y=y, ldy=y.stride, width=value.width // n_groups,
        n_groups=n_groups, scale=node.attrs["scale"],
    )  # fmt: skip
