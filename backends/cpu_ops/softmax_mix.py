"""`softmax_mix` as an op."""

from typing import Any

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def softmax_mix(n: int) -> abi.Op:
    """Return the op for n values: address and distance of rows of each value, of each score."""
    order = (f"{kind}{c}" for c in range(n) for kind in ("x", "ldx", "s", "lds"))
    return abi.Op("softmax_mix", "softmax_mix", ("rows", "y", "ldy", "width", "n", *order))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    n, out = len(node.inputs) // 2, node.outputs[0]
    buffers = [lowering.buffer(value) for value in node.inputs]
    y, words = lowering.new(out), dict[str, Any]()
    for c, (x, s) in enumerate(zip(buffers[:n], buffers[n:], strict=True)):
        words |= {f"x{c}": x, f"ldx{c}": x.stride, f"s{c}": s, f"lds{c}": s.stride}
    lowering.planner.emit(
        softmax_mix(n), [*buffers], [y], cost=2 * n * out.width, rows=ROW_WORDS[out.rows], y=y,
        ldy=y.stride, width=out.width, n=n, **words,
    )  # fmt: skip
