"""Operations on CUDA that make int8 rows of their values too, for products that read these.

A dispatch less between a value and its products: of those, a step for one token is mostly made.
"""

from collections.abc import Callable
from typing import Any

from jitllm.backends import _gpu_core
from jitllm.backends._gpu_lower import ACTIVATIONS, Place
from jitllm.backends.ir import Node
from jitllm.kernels import formats
from jitllm.kernels.cuda._layout import ELEMENTS, GROUP

_PRODUCTS = ("matmul", "head_matmul", "experts", "open_experts")
Lower = Callable[[Any, Node], None]


def rms_norm(lowering: Any, node: Node) -> None:
    """Emit the norm of whole rows with their int8 rows, or the norm alone."""
    _norm(lowering, node, node.attrs["group"], is_layer=False)


def layer_norm(lowering: Any, node: Node) -> None:
    """Emit the norm with its int8 rows, or the norm alone."""
    _norm(lowering, node, node.inputs[0].width, is_layer=True)


def _norm(lowering: Any, node: Node, group: int, *, is_layer: bool) -> None:
    (value,), x = node.inputs, lowering.place(node.inputs[0])
    if group != value.width or not _is_wanted(lowering, node, x):
        _gpu_core.norm(lowering, node, group, is_layer=is_layer)
        return
    y = lowering.new(node.outputs[0])
    w, b = (lowering.vector(name) for name in (*node.weights, "", "")[:2])
    with lowering.rounding(y, value.rows, value.width) as q:
        lowering.emit(
            "norm_rounded", [lowering.count(value.rows), x, y, w, b, q],
            [x.stride, y.stride, value.width, float(node.attrs["eps"])], [y, q], groups=1,
            rows=value.rows, constants=(is_layer, w is not None, b is not None),
        )  # fmt: skip


def glu(lowering: Any, node: Node) -> None:
    """Emit the gated unit with its int8 rows, or the unit alone."""
    act = ACTIVATIONS.index(node.attrs["act"])
    a, b = (lowering.place(value) for value in node.inputs)
    if not _is_wanted(lowering, node, a, b):
        _gpu_core.two_operands(lowering, node, _gpu_core.GLU, act)
        return
    out, y = node.outputs[0], lowering.new(node.outputs[0])
    with lowering.rounding(y, out.rows, out.width) as q:
        lowering.emit(
            "binary_rounded", [lowering.count(out.rows), a, b, y, q],
            [a.stride, b.stride, y.stride, out.width, 0.0, 0.0], [y, q],
            groups=-(-out.width // ELEMENTS), rows=out.rows, constants=(_gpu_core.GLU, act),
        )  # fmt: skip


def _is_wanted(lowering: Any, node: Node, *inputs: Place) -> bool:
    """Whether a product takes int8 rows of the value that nothing else can change before."""
    out = node.outputs[0]
    if lowering.exact or out.width % GROUP or node.name in lowering.taps:
        return False
    aligned = all(x.shift % 16 == 0 and x.stride % 4 == 0 for x in inputs)
    return aligned and any(
        reader.op in _PRODUCTS and reader.inputs[0].id == out.id
        and any(_is_quantized(lowering, name) for name in reader.weights[:3])
        for reader in lowering.readers(out)
    )  # fmt: skip


def _is_quantized(lowering: Any, name: str) -> bool:
    matrix = lowering.weights.get(name)
    return matrix is not None and formats.get(matrix.type_name).scales != "float"


OPS: dict[str, Lower] = {"rms_norm": rms_norm, "layer_norm": layer_norm, "glu": glu}
