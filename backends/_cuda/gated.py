"""Gated units: for one row, both products and what is made of them are one dispatch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jitllm.backends._cuda.products import BUSY_WARPS, CODES, scheme_of
from jitllm.backends._cuda.rounding import reader_of, rounded_form
from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.dispatch import Form, Place
from jitllm.backends._gpu.lower import ACTIVATIONS
from jitllm.backends.ir import Node
from jitllm.kernels import packed
from jitllm.kernels.cuda._layout import GROUP

if TYPE_CHECKING:
    from jitllm.backends._cuda.lower import CudaLowering

_BLOCKS = 4  # of 16 outputs, that a workgroup has of either matrix if warps share none


@dataclass(frozen=True, slots=True)
class Gated:
    """Products of one value that nobody else reads, the later of them, and the unit they make."""

    gate: Node
    up: Node
    unit: Node
    last: Node


def find_gated(lowering: "CudaLowering") -> dict[str, Gated]:
    """Return what one dispatch can do for one row, by the names of both products."""
    products = [node for node in lowering.graph.nodes if node.op == "matmul"]
    order = {node.outputs[0].id: i for i, node in enumerate(products)}
    found = dict[str, Gated]()
    for unit in lowering.graph.nodes:
        if unit.op == "glu" and all(value.id in order for value in unit.inputs):
            gate, up = (order[value.id] for value in unit.inputs)
            gated = Gated(products[gate], products[up], unit, products[max(gate, up)])
            if _is_one(lowering, gated):
                found |= {gated.gate.name: gated, gated.up.name: gated}
    return found


def _is_one(lowering: "CudaLowering", gated: Gated) -> bool:
    """Whether products are alike and only units are read, by a product with int8 rows."""
    products = gated.gate, gated.up
    (w_name, bias), (other, other_bias) = (node.weights for node in products)
    w, v = lowering.weights[w_name], lowering.weights[other]
    if bias or other_bias or (w.type_name, w.shape) != (v.type_name, v.shape) or w.n % GROUP:
        return False
    if gated.gate.inputs[0].id != gated.up.inputs[0].id or w_name == other:
        return False
    if any(len(lowering.readers(node.outputs[0])) > 1 for node in products):
        return False
    is_coded = scheme_of(w.type_name, w.k, 1, is_exact=lowering.exact) is CODES
    is_seen = any(node.name in lowering.taps for node in products)
    return is_coded and not is_seen and reader_of(lowering, gated.unit) is not None


def emit_gated(lowering: "CudaLowering", gated: Gated) -> None:
    """Emit the units, of one row with its products; of more, these are there."""
    (w_name, _), (other, _), out = gated.gate.weights, gated.up.weights, gated.unit.outputs[0]
    w, v, x = lowering.weights[w_name], lowering.weights[other], gated.gate.inputs[0]
    source = lowering.rounded(lowering.place(x), x.rows, w.k, 1)
    a, b = (lowering.place(value) for value in gated.unit.inputs)
    y, act = lowering.new(out), ACTIVATIONS.index(gated.unit.attrs["act"])
    blocks = w.n // packed.ROWS
    busy = BUSY_WARPS * lowering.chip.multiprocessors
    split = 2 if 2 * blocks < busy and w.k >= 16 * GROUP else 1
    with lowering.rounding(y, out.rows, out.width, 1) as q:
        one = Form(
            f"matvec_gated.{w.type_name.lower()}", (split, act),
            (lowering.count(out.rows), Place("", w.address, 0), Place("", v.address, 0), source,
             y, q),
            (w.n, w.k), -(-blocks * split // _BLOCKS),
        )  # fmt: skip
        more = rounded_form(
            lowering, gpu_core.GLU, a, b, y, q, out.width, out.rows, act=act, least=2
        )
        lowering.emit_forms([one], [y, q], out.rows, most=1)
        lowering.emit_forms([more], [y, q], out.rows)
    lowering.done.add(gated.unit.name)
