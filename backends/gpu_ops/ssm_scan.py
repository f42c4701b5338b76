"""`ssm_scan`: a state space for each head, with one decay."""

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import STATE_COLUMNS, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the scan."""
    attrs, values = node.attrs, node.inputs
    x, b, c, *rest = (lowering.place(value) for value in values)
    y, width, heads = lowering.new(node.outputs[0]), values[0].width, attrs["n_heads"]
    step, groups, head_dim = rest[0] if rest else None, attrs["n_groups"], width // heads
    a, d, shift = (lowering.constant(attrs[name]) for name in ("a", "d", "step_bias"))
    states, slot_bytes = lowering.state(node)
    lowering.emit(
        "ssm_scan", [Place("run", 0, 0), x, b, c, step, y, a, d, shift, states],
        [x.stride, b.stride, c.stride, step.stride if step else 0, y.stride, slot_bytes],
        [y, states], groups=heads * -(-head_dim // STATE_COLUMNS), rows="T",
        constants=(heads, groups, head_dim, values[1].width // groups, step is not None,
                   d is not None, shift is not None),
    )  # fmt: skip
