"""`compress`: keys made of several positions."""

from jitllm.backends._gpu import sparse
from jitllm.backends._gpu.core import write_cells
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write of what keys are made of, and those that end at rows."""
    attrs, (x, scores) = node.attrs, (lowering.place(value) for value in node.inputs)
    pages, kinds, words = sparse.cells(lowering, node)
    write_cells(lowering, node, x, scores)
    y, n = lowering.new(node.outputs[0]), node.outputs[0].width
    key_bytes, _ = lowering.pools[attrs["cache"]].head_bytes(attrs["layer"])
    lowering.emit(
        "compress", [Place("run", 0, 0), pages, lowering.constant(attrs["ape"]), y],
        [y.stride, n, key_bytes, *words], [y], groups=-(-n // LANES), rows="T",
        constants=(*kinds, attrs["ratio"], attrs["overlap"], node.inputs[0].width),
    )  # fmt: skip
