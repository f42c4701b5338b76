"""Lowering of the operations that nearly all models have."""

from collections.abc import Callable
from dataclasses import dataclass

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import ACTIVATIONS, LANES, Lowering
from jitllm.backends._gpu.memory import row_bytes
from jitllm.backends.ir import Node

ADD, MUL, GLU, BOUNDED_GLU, GATED = range(5)  # cases of the kernel "binary"
COPY, SCALE, SOFT_CAP, CLAMP, ACTIVATION, XIELU, FILL = range(7)  # cases of "unary"


def embed(lowering: Lowering, node: Node, ids: Place | None = None) -> None:
    """Rows of a table for the tokens, or for other numbers of the run block."""
    w, y = lowering.weights[node.weights[0]], lowering.new(node.outputs[0])
    lowering.emit(
        f"embed.{w.type_name.lower()}",
        [lowering.count("T"), ids or lowering.tokens, Place("", w.address, 0), y],
        [y.stride, w.k, row_bytes(w.type_name, w.k)], [y], groups=-(-w.k // (32 * LANES)), rows="T",
    )  # fmt: skip


def norm(lowering: Lowering, node: Node, group: int, *, is_layer: bool) -> None:
    """Emit the norm of each `group` columns."""
    (x,), y = node.inputs, lowering.new(node.outputs[0])
    source = lowering.place(x)
    w, b = (lowering.vector(name) for name in (*node.weights, "", "")[:2])
    lowering.emit(
        "norm", [lowering.count(x.rows), source, y, w, b],
        [source.stride, y.stride, group, float(node.attrs["eps"])], [y],
        groups=x.width // group, rows=x.rows,
        constants=(is_layer, w is not None, b is not None),
    )  # fmt: skip


def _matmul(lowering: Lowering, node: Node) -> None:
    (x,), (name, bias) = node.inputs, node.weights
    y = lowering.new(node.outputs[0])
    lowering.product(
        lowering.weights[name], lowering.place(x), y, x.rows, bias=lowering.vector(bias)
    )


def two_operands(lowering: Lowering, node: Node, op: int, act: int = 0) -> None:
    """Emit an operation on two values of one shape."""
    a, b = (lowering.place(value) for value in node.inputs)
    out = node.outputs[0]
    bounds = node.attrs.get("bounds", (0.0, 0.0))
    lowering.binary(
        op, a, b, lowering.new(out), out.width, out.rows, ldb=b.stride, act=act, bounds=bounds
    )


def with_row(lowering: Lowering, node: Node, op: int, row: Place | None) -> None:
    """Emit an operation on a value and one row for all."""
    out, x = node.outputs[0], lowering.place(node.inputs[0])
    lowering.binary(op, x, row, lowering.new(out), out.width, out.rows, ldb=0)


def copy_heads(
    lowering: Lowering, x: Place, y: Place, rows: str, *, n_heads: int, n: int,
    steps: tuple[int, int],
) -> None:  # fmt: skip
    """Copy n columns of every head; `steps` are the distances of heads in x and in y."""
    lowering.emit(
        "copy_heads", [lowering.count(rows), x, y], [x.stride, y.stride, *steps, n_heads, n],
        [y], groups=-(-n_heads * n // LANES), rows=rows,
    )  # fmt: skip


def _columns(lowering: Lowering, node: Node) -> None:
    lowering.share(node.outputs[0], node.inputs[0], node.attrs["start"])


def rope(lowering: Lowering, node: Node) -> None:
    """Emit the rotation of each head."""
    (x,), attrs, y = node.inputs, node.attrs, lowering.new(node.outputs[0])
    source = lowering.place(x)
    lowering.emit(
        "rope", [lowering.count("T"), source, y, angles_of(lowering, node)],
        [source.stride, y.stride, x.width, attrs["head_dim"], attrs["n_rot"],
         float(attrs["magnitude"])],
        [y], groups=-(-x.width // LANES), rows="T", constants=(attrs["kind"] == "neox",),
    )  # fmt: skip


def angles_of(lowering: Lowering, node: Node) -> Place:
    """Return where the host writes the angles of a rope's pairs, the same for equal ropes."""
    frequencies = node.attrs["frequencies"]
    key: bytes = frequencies.tobytes()
    if key not in lowering.angles:
        lowering.angles[key] = lowering.row_place(8 * len(frequencies)), frequencies
    return lowering.angles[key][0]


def _scale_by_position(lowering: Lowering, node: Node) -> None:
    factors = lowering.row_place(4)
    lowering.factors.append((factors, node.attrs))
    out, x = node.outputs[0], lowering.place(node.inputs[0])
    lowering.binary(
        MUL, x, factors, lowering.new(out), out.width, "T", ldb=1, part=out.width
    )  # fmt: skip


def _select_outputs(lowering: Lowering, node: Node) -> None:
    x, y = lowering.place(node.inputs[0]), lowering.new(node.outputs[0])
    width = node.outputs[0].width
    lowering.emit(
        "select_rows", [lowering.count("O"), lowering.output_rows, x, y],
        [x.stride, y.stride, width], [y], groups=-(-width // LANES), rows="O",
    )  # fmt: skip


def keep(lowering: Lowering, node: Node) -> None:
    """Write keys and values, the last two inputs, to the cache."""
    k, v = (lowering.place(value) for value in node.inputs[-2:])
    write_cells(lowering, node, k, v)


def write_cells(lowering: Lowering, node: Node, k: Place, v: Place) -> None:
    """Write keys and values to a node's cache and layer; heads may have no values."""
    attrs = node.attrs
    pool, pages = lowering.pools[attrs["cache"]], pages_of(lowering, node)
    heads, dk, dv = pool.spec.layers[attrs["layer"]]
    key_bytes, head_bytes = pool.head_bytes(attrs["layer"])
    lowering.emit(
        "keep", [Place("run", 0, 0), k, v, pages],
        [k.stride, v.stride, heads, dk, dv, head_bytes, key_bytes,
         pool.layer_bytes(attrs["layer"]), attrs["cache"], len(lowering.pools)],
        [pages], groups=-(-heads * (dk + dv) // LANES), rows="T", constants=pool.kinds,
    )  # fmt: skip


def pages_of(lowering: Lowering, node: Node) -> Place:
    """Return the place of the pages of a node's cache and layer."""
    address, nbytes = lowering.pools[node.attrs["cache"]].pages(node.attrs["layer"])
    return Place("", address, nbytes)


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What a kernel of attention gets; the places of q and y and their strides come first."""

    addresses: tuple[Place | None, ...]
    words: tuple[int | float, ...]
    constants: tuple[int, ...]


def write_keys(lowering: Lowering, node: Node) -> AttentionCall:
    """Emit the write of an attention's keys and values, if it has any; return what is read then."""
    attrs, kv = node.attrs, [lowering.place(value) for value in node.inputs[1:]]
    alone, kinds, layout = attrs["cache"] < 0, (0, 0), (0, 0, 0)
    keys, values = kv if alone else (pages_of(lowering, node), None)
    if not alone:
        if kv and node.name not in lowering.kept:
            keep(lowering, node)
        pool = lowering.pools[attrs["cache"]]
        kinds = pool.kinds
        key_bytes, head_bytes = pool.head_bytes(attrs["layer"])
        layout = head_bytes, key_bytes, pool.layer_bytes(attrs["layer"])
    sinks, table, slopes = lowering.vector(node.weights[0]), attrs["table"], attrs["slopes"]
    words = (
        attrs["n_heads"] // attrs["n_kv_heads"], *layout,
        max(attrs["cache"], 0) << 16 | len(lowering.pools), attrs["window"],
        attrs["scale"], attrs["soft_cap"], *((kv[0].stride, kv[1].stride) if alone else (0, 0)),
    )  # fmt: skip
    constants = (
        *kinds, attrs["head_dim"], attrs["v_head_dim"], attrs["causal"], attrs["chunked"],
        attrs["cross"], alone, sinks is not None, slopes is not None,
        0 if table is None else table.shape[1],
    )  # fmt: skip
    terms = lowering.constant(slopes if table is None else table)
    return AttentionCall((keys, values, sinks, terms), words, constants)


def rotate_heads(
    lowering: Lowering, x: Place, y: Place, n_heads: int, width: int, size: int
) -> None:
    """Multiply each `size` columns of heads with the Hadamard matrix; y may be x."""
    lowering.emit(
        "rotate_heads", [lowering.count("T"), x, y], [x.stride, y.stride], [y], groups=n_heads,
        rows="T", constants=(width, size),
    )  # fmt: skip


def attention(lowering: Lowering, node: Node) -> None:
    """Emit the write of keys and values, and the attention."""
    attrs, y = node.attrs, lowering.new(node.outputs[0])
    q, dk, dv = lowering.place(node.inputs[0]), attrs["head_dim"], attrs["v_head_dim"]
    if dk + dv > 3840:  # every device has 16 KiB of shared memory; other arrays take 512 bytes
        raise lowering.lacking(f"has heads of {dk} and {dv} numbers")
    call = write_keys(lowering, node)
    lowering.emit(
        "attention", [Place("run", 0, 0), q, y, *call.addresses],
        [q.stride, y.stride, *call.words], [y], groups=attrs["n_heads"], rows="T",
        constants=call.constants,
    )  # fmt: skip


OPS: dict[str, Callable[[Lowering, Node], None]] = {
    "embed": embed,
    "rms_norm": lambda low, node: norm(low, node, node.attrs["group"], is_layer=False),
    "layer_norm": lambda low, node: norm(low, node, node.inputs[0].width, is_layer=True),
    "matmul": _matmul,
    "add_bias": lambda low, node: with_row(low, node, ADD, low.vector(node.weights[0])),
    "add": lambda low, node: two_operands(low, node, ADD),
    "mul": lambda low, node: two_operands(low, node, MUL),
    "scale": lambda low, node: low.unary(node, SCALE, node.attrs["factor"]),
    "soft_cap": lambda low, node: low.unary(node, SOFT_CAP, node.attrs["cap"]),
    "activation": lambda low, node: low.unary(
        node, ACTIVATION, act=ACTIVATIONS.index(node.attrs["act"])
    ),
    "glu": lambda low, node: two_operands(low, node, GLU, ACTIVATIONS.index(node.attrs["act"])),
    "columns": _columns,
    "rope": rope,
    "scale_by_position": _scale_by_position,
    "attention": attention,
    "select_outputs": _select_outputs,
}
