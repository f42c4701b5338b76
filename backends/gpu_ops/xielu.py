"""`xielu`: the activation of that name."""

from jitllm.backends._gpu.core import XIELU
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the activation."""
    lowering.unary(
        node, XIELU, *(node.attrs[name] for name in ("alpha_p", "alpha_n", "beta", "eps"))
    )
