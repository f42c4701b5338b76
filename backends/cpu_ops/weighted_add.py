"""`weighted_add` as an op."""

from typing import Any

from jitllm.backends._cpu.lower import ROW_WORDS, Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def weighted_add(n: int) -> abi.Op:
    """Return the op for n sources: address and distance of rows of each."""
    order = (f"{word}{c}" for c in range(n) for word in ("s", "lds"))
    return abi.Op(
        "altup", "weighted_add",
        ("rows", "x", "ldx", "gates", "ldg", "start", "shift:f32", "y", "ldy", "width", "n",
         *order),
    )  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    buffers, out = [lowering.buffer(value) for value in node.inputs], node.outputs[0]
    (x, gates, *sources), y, words = buffers, lowering.new(out), dict[str, Any]()
    for c, source in enumerate(sources):
        words |= {f"s{c}": source, f"lds{c}": source.stride}
    lowering.planner.emit(
        weighted_add(len(sources)), [*buffers], [y], cost=2 * len(sources) * out.width,
        rows=ROW_WORDS[out.rows], x=x, ldx=x.stride, gates=gates, ldg=gates.stride, y=y,
        ldy=y.stride, width=out.width, n=len(sources), **node.attrs, **words,
    )  # fmt: skip
