"""Operations on CUDA that make int8 rows of their values too, for products that read these.

A dispatch less between a value and its products: of those, a step for one token is mostly made.
"""

from collections.abc import Callable
from typing import Any

from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.dispatch import Form, Place
from jitllm.backends._gpu.lower import ACTIVATIONS, FORMS
from jitllm.backends._gpu.memory import Matrix
from jitllm.backends.ir import Node, Value
from jitllm.kernels import formats
from jitllm.kernels.cuda._layout import ELEMENTS, GROUP, KEPT_COLUMNS

# Operations that multiply their first input with a matrix, and its place among their weights.
_MATRICES = {"matmul": 0, "head_matmul": 0, "experts": 1, "open_experts": 1}
Lower = Callable[[Any, Node], None]


def rms_norm(lowering: Any, node: Node) -> None:
    """Emit the norm of whole rows with their int8 rows, or the norm alone.

    A norm that is added to a value of which the next norm is made does all of it.
    """
    after = _added_and_normed(lowering, node)
    if after:
        _norm_added(lowering, node, *after)
    else:
        _norm(lowering, node, node.attrs["group"], is_layer=False)


def _added_and_normed(lowering: Any, node: Node) -> tuple[Node, Value, Node] | None:
    """Return the addition behind a norm, its other operand and the norm of the sum."""
    addition = lowering.addition_after(node)
    if not addition or addition[0].name in lowering.taps:
        return None
    add, other = addition
    norms = [n for n in lowering.readers(add.outputs[0]) if n.op == "rms_norm"]
    width, x = node.inputs[0].width, lowering.place(node.inputs[0])
    if len(norms) != 1 or width > KEPT_COLUMNS or add.outputs[0].rows != node.inputs[0].rows:
        return None
    if not all(_is_plain(n, width) for n in (node, norms[0])):
        return None
    matrix = reader_of(lowering, norms[0])
    return (
        (add, other, norms[0])
        if rounds(lowering, matrix, width, x, lowering.place(other))
        else None
    )


def _is_plain(node: Node, width: int) -> bool:
    """Whether a norm is of whole rows, with a weight and nothing else."""
    return node.attrs["group"] == width and len(node.weights) == 1 and bool(node.weights[0])


def _norm_added(lowering: Any, node: Node, add: Node, other: Value, norm: Node) -> None:
    (value,), x, r = node.inputs, lowering.place(node.inputs[0]), lowering.place(other)
    s, y = (lowering.new(n.outputs[0]) for n in (add, norm))
    w, w_y = (lowering.vector(n.weights[0]) for n in (node, norm))
    with lowering.rounding(y, value.rows, value.width, 1) as q:
        lowering.emit(
            "norm_added", [lowering.count(value.rows), x, r, s, y, w, w_y, q],
            [x.stride, r.stride, s.stride, y.stride, value.width,
             float(node.attrs["eps"]), float(norm.attrs["eps"])],
            [s, y, q], groups=1, rows=value.rows,
        )  # fmt: skip
    lowering.done |= {add.name, norm.name}


def layer_norm(lowering: Any, node: Node) -> None:
    """Emit the norm with its int8 rows, or the norm alone."""
    _norm(lowering, node, node.inputs[0].width, is_layer=True)


def _norm(lowering: Any, node: Node, group: int, *, is_layer: bool) -> None:
    (value,), x = node.inputs, lowering.place(node.inputs[0])
    if group != value.width or not rounds(lowering, reader_of(lowering, node), group, x):
        gpu_core.norm(lowering, node, group, is_layer=is_layer)
        return
    y = lowering.new(node.outputs[0])
    w, b = (lowering.vector(name) for name in (*node.weights, "", "")[:2])
    with lowering.rounding(y, value.rows, value.width, 1) as q:
        lowering.emit(
            "norm_rounded", [lowering.count(value.rows), x, y, w, b, q],
            [x.stride, y.stride, value.width, float(node.attrs["eps"])], [y, q], groups=1,
            rows=value.rows, constants=(is_layer, w is not None, b is not None),
        )  # fmt: skip


def glu(lowering: Any, node: Node) -> None:
    """Emit the gated unit, for a product if one reads it."""
    _gated(lowering, node, gpu_core.GLU, ACTIVATIONS)


def bounded_glu(lowering: Any, node: Node) -> None:
    """Emit the gated unit within bounds, for a product if one reads it."""
    _gated(lowering, node, gpu_core.BOUNDED_GLU, FORMS)


def _gated(lowering: Any, node: Node, op: int, acts: tuple[str, ...]) -> None:
    (a, b), out = (lowering.place(value) for value in node.inputs), node.outputs[0]
    lowering.binary(
        op, a, b, lowering.new(out), out.width, out.rows, ldb=b.stride,
        act=acts.index(node.attrs["act"]), bounds=node.attrs.get("bounds", (0.0, 0.0)),
        reader=reader_of(lowering, node),
    )  # fmt: skip


def rounds(lowering: Any, reader: Matrix | None, width: int, *inputs: Place) -> bool:
    """Whether products with `reader` take int8 rows, and inputs of `width` columns allow them."""
    if not _takes_rounded(lowering, reader) or width % GROUP:
        return False
    return all(x.shift % 16 == 0 and x.stride % 4 == 0 for x in inputs)


def _takes_rounded(lowering: Any, matrix: Matrix | None) -> bool:
    is_quantized = matrix is not None and formats.get(matrix.type_name).scales != "float"
    return is_quantized and not lowering.exact


def rounded_binary(
    lowering: Any, op: int, a: Place, b: Place, y: Place, width: int, rows: str, *,
    act: int, bounds: tuple[float, float], fan: int,
) -> None:  # fmt: skip
    """Emit y = f(a, b) with int8 rows; `op` is a case of the kernel "binary"."""
    with lowering.rounding(y, rows, width, fan) as q:
        form = rounded_form(lowering, op, a, b, y, q, width, rows, act=act, bounds=bounds, fan=fan)
        lowering.emit_forms([form], [y, q], rows, fan=fan)


def rounded_form(
    lowering: Any, op: int, a: Place, b: Place, y: Place, q: Place, width: int, rows: str, *,
    act: int, bounds: tuple[float, float] = (0.0, 0.0), fan: int = 1, least: int = 1,
) -> Form:  # fmt: skip
    """Return the form of `rounded_binary` that leaves int8 rows at q, for `least` rows or more."""
    return Form(
        "binary_rounded", (op, act), (lowering.count(rows, fan), a, b, y, q),
        (a.stride, b.stride, y.stride, width, float(bounds[0]), float(bounds[1])),
        -(-width // ELEMENTS), least=least,
    )  # fmt: skip


def reader_of(lowering: Any, node: Node) -> Matrix | None:
    """Return a matrix whose products take int8 rows of a value that no tap may change before."""
    out, taps = node.outputs[0], {node.name, f"{node.name}.pattern"} & lowering.taps
    for reader in () if taps else lowering.readers(out):
        if reader.op in _MATRICES and reader.inputs[0].id == out.id:
            matrix: Matrix | None = lowering.weights.get(reader.weights[_MATRICES[reader.op]])
            if _takes_rounded(lowering, matrix):
                return matrix
    return None


OPS: dict[str, Lower] = {
    "rms_norm": rms_norm, "layer_norm": layer_norm, "glu": glu, "bounded_glu": bounded_glu,
}  # fmt: skip
