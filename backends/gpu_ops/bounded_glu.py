"""`bounded_glu`: gated units within bounds."""

from jitllm.backends._gpu.core import BOUNDED_GLU, two_operands
from jitllm.backends._gpu.lower import FORMS, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the unit of gate and up."""
    two_operands(lowering, node, BOUNDED_GLU, FORMS.index(node.attrs["act"]))
