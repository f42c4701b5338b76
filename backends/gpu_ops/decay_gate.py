"""`decay_gate`: how much of its state a recurrent layer keeps."""

import numpy as np

from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node

FORMS = ("softplus", "exp", "sigmoid")  # kernels know them by their places


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op; a rate is for one column or for several beside each other."""
    (value,), rate, bound = node.inputs, node.attrs["rate"], node.attrs["bound"]
    x, y = lowering.place(value), lowering.new(node.outputs[0])
    form = node.attrs["act"] if bound is None else "sigmoid"
    shift, rates = lowering.vector(node.weights[0]), lowering.constant(np.asarray(rate))
    lowering.emit(
        "decay_gate", [lowering.count(value.rows), x, shift, rates, y],
        [x.stride, y.stride, value.width, value.width // len(rate), float(bound or 0.0)], [y],
        groups=-(-value.width // LANES), rows=value.rows, constants=(FORMS.index(form),),
    )  # fmt: skip
