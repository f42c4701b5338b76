"""`wkv`: the recurrences of RWKV."""

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import STATE_COLUMNS, Lowering
from jitllm.backends.ir import Node

FORMS = ("before", "gated", "delta")  # kernels know them by their places


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the recurrence."""
    attrs, heads = node.attrs, node.attrs["n_heads"]
    dk, dv = node.inputs[0].width // heads, node.outputs[0].width // heads
    rows: list[Place | None] = [lowering.place(value) for value in node.inputs]
    rows += [None] * (6 - len(rows))
    y, (states, slot_bytes) = lowering.new(node.outputs[0]), lowering.state(node)
    lowering.emit(
        "wkv", [Place("run", 0, 0), *rows, y, states],
        [*(x.stride if x else 0 for x in rows), y.stride, slot_bytes], [y, states],
        groups=heads * -(-dv // STATE_COLUMNS), rows="T",
        constants=(FORMS.index(attrs["form"]), heads, attrs["n_key_heads"], dk, dv),
    )  # fmt: skip
