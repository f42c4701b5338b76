"""`delta_net`: the gated delta rule."""

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import STATE_COLUMNS, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the recurrence."""
    attrs, (*_, decays, _) = node.attrs, node.inputs
    heads, dk, dv = attrs["n_heads"], attrs["head_dim"], attrs["v_head_dim"]
    rows = [lowering.place(value) for value in node.inputs]
    y, (states, slot_bytes) = lowering.new(node.outputs[0]), lowering.state(node)
    lowering.emit(
        "delta_net", [Place("run", 0, 0), *rows, y, states],
        [*(x.stride for x in rows), y.stride, slot_bytes, float(attrs["scale"])], [y, states],
        groups=heads * -(-dv // STATE_COLUMNS), rows="T",
        constants=(heads, attrs["n_key_heads"], dk, dv, attrs["tiled"], decays.width != heads),
    )  # fmt: skip
