"""Lowering to CUDA's own products and attention; all else is that of `_gpu/lower.py`.

Activations are rounded to int8 or float16 once for all products that read a value. Unless somebody
looks at what is between, a product whose only reader is an addition adds the other operand itself,
so does a norm that another norm follows; heads are normed, turned and written in one dispatch, and
gated units of one row made by one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from jitllm.backends._cuda.attention import attention
from jitllm.backends._cuda.chip import Chip
from jitllm.backends._cuda.gated import emit_gated, find_gated
from jitllm.backends._cuda.heads import emit_heads, find_heads
from jitllm.backends._cuda.products import (
    HALF,
    INT8,
    MOST_SLOTS,
    Grouped,
    Product,
    Scheme,
    is_integer,
    scheme_of,
)
from jitllm.backends._cuda.rounding import OPS, rms_norm, rounded_binary, rounds
from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.dispatch import MOST_ROWS, Form, Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends._gpu.memory import Matrix
from jitllm.backends.ir import Node, Value
from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._layout import ELEMENTS, GROUP, GROUP_BYTES, HALF_BYTES

NEVER = MOST_ROWS + 1


class CudaLowering(Lowering):
    """Makes the dispatches of one graph for CUDA.

    Parameters
    ----------
    exact : bool
        Keep activations in float32.
    chip : Chip
        What products are chosen by; the memory that they take does not depend on it.
    *arguments, **options
        Those of `Lowering`.
    """

    columns = ELEMENTS

    def __init__(self, exact: bool, chip: Chip, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exact, self.chip = exact, chip
        self._halves = any(  # whether matrices of codes are multiplied in float16
            formats.get(w.type_name).planes and not is_integer(w.type_name, chip)
            for w in self.weights.values()
        )
        self._rounded: dict[tuple[Place, str, int, str], Place] = {}
        self._grouped: dict[tuple[Place, Scheme], Grouped] = {}
        self._readers_of: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            for value in node.inputs:
                self._readers_of.setdefault(value.id, []).append(node)
        self.heads, self.gated = find_heads(self), find_gated(self)

    # --- what several products read ---

    def rounded(self, x: Place, rows: str, width: int, fan: int) -> Place:
        """Return the int8 rows of x, `fan` for each row of the run; made once for all readers."""
        key = x, rows, fan, INT8
        if key not in self._rounded:
            q = self.take_bytes(rows, width // GROUP * GROUP_BYTES * fan)
            self.emit(
                "quantize", [self.count(rows, fan), x, q], [x.stride, width], [q],
                groups=-(-width // 256), rows=rows, fan=fan,
            )  # fmt: skip
            self._rounded[key] = q
        return self._rounded[key]

    def halved(self, x: Place, rows: str, width: int, fan: int, *, order: int, least: int) -> Place:
        """Return the float16 rows of x in an order of columns, for `least` rows; see `rounded`."""
        key = x, rows, fan, f"{HALF}{order}, {least}"
        if key not in self._rounded:
            h = self.take_bytes(rows, (-(-width // GROUP) * HALF_BYTES + 4) * fan)
            addresses = self.count(rows, fan), x, h
            is_read = order or self._halves  # the plan must not know: room is taken in any case
            form = Form(
                "to_half", (order,), addresses, (x.stride, width), 1,
                least=least if is_read else NEVER,
            )  # fmt: skip
            self.emit_forms([form], [h], rows, fan=fan)
            self._rounded[key] = h
        return self._rounded[key]

    @contextmanager
    def rounding(self, x: Place, rows: str, width: int, fan: int) -> Iterator[Place]:
        """Give room for the int8 rows of x, which what is emitted within makes with x."""
        q = self.take_bytes(rows, width // GROUP * GROUP_BYTES * fan)
        yield q
        self._rounded[x, rows, fan, INT8] = q

    def binary(
        self, op: int, a: Place, b: Place | None, y: Place, width: int, rows: str, *, ldb: int,
        part: int = 1, act: int = 0, bounds: tuple[float, float] = (0.0, 0.0), fan: int = 1,
        reader: Matrix | None = None,
    ) -> None:  # fmt: skip
        """Emit y = f(a, b), with int8 rows if `reader` takes these."""
        if b and ldb == b.stride and part == 1 and rounds(self, reader, width, a, b, y):
            rounded_binary(self, op, a, b, y, width, rows, act=act, bounds=bounds, fan=fan)
        else:
            super().binary(
                op, a, b, y, width, rows, ldb=ldb, part=part, act=act, bounds=bounds, fan=fan
            )

    def readers(self, value: Value) -> list[Node]:
        """Return the nodes that read a value."""
        return self._readers_of.get(value.id, [])

    def give(self, place: Place, *, now: bool = False) -> None:
        """Let later dispatches use the memory, and that of rounded rows of what was there."""
        super().give(place, now=now)
        self._forget([place])

    def emit_forms(
        self, forms: Sequence[Form], writes: Sequence[Place], rows: str, **options: int
    ) -> None:
        """Add a dispatch; rounded rows of what it writes count no more."""
        super().emit_forms(forms, writes, rows, **options)
        self._forget(writes)

    def _forget(self, places: Sequence[Place]) -> None:
        for key in [key for key in self._rounded if any(key[0].meets(p) for p in places)]:
            super().give(self._rounded.pop(key))
        for ids in [ids for ids in self._grouped if any(ids[0].meets(p) for p in places)]:
            grouped = self._grouped.pop(ids)
            super().give(grouped.slots)
            super().give(grouped.tiles)

    def grouped(self, ids: Place, rows: str, fan: int, n: int, scheme: Scheme) -> Grouped:
        """Return rows sorted by experts, `fan` for each row of the run; made once for all readers.

        Tiles are as large as an expert has rows on average; runs of fewer rows do without.
        """
        key = ids, scheme
        if key not in self._grouped:
            slots = self.take_bytes(rows, 4 * MOST_SLOTS * fan)
            tiles = self.take_bytes(rows, 4 * fan + 4)
            addresses = self.count(rows, fan), ids, slots, tiles
            forms = [
                Form("group_rows", (size,), addresses, (n,), 1, MOST_ROWS, least)
                for size, least, _ in scheme.sizes(n)
            ]
            self.emit_forms(forms, [slots, tiles], rows, fan=fan)
            self._grouped[key] = Grouped(slots, tiles, n)
        return self._grouped[key]

    # --- products ---

    def dot(self, name: str, x: Place, y: Place, width: int, rows: str) -> None:
        """Emit the product of each row with a small weight, as a matrix of one row."""
        matrix = np.zeros((width, packed.ROWS), np.float32)
        matrix[:, 0] = self.vectors[name]
        place = self._placed(f"{name} packed", matrix)  # by name: a plan knows no numbers
        self._multiply("F32", place, (1, width), x, y, rows)

    def product(
        self, w: Matrix, x: Place, y: Place, rows: str, *, heads: int = 1, **options: Any
    ) -> None:
        """Emit y = x w^T; see `Lowering.product`."""
        if heads > 1 and len(w.shape) == 2 and w.n // heads % packed.ROWS:
            raise self.lacking(f"has heads of {w.n // heads} rows, not {packed.ROWS} each")
        experts = prod(w.shape[:-2])
        super().product(w, x, y, rows, heads=heads, experts=experts, **options)

    def addition_after(self, node: Node) -> tuple[Node, Value] | None:
        """Return the addition that can be part of what is before it, and its other operand."""
        out = node.outputs[0]
        readers = self.readers(out)
        if len(readers) != 1 or readers[0].op != "add" or node.name in self.taps:
            return None
        a, b = readers[0].inputs
        other = b if a.id == out.id else a
        is_there = other.id != out.id and other.id in self._places
        return (readers[0], other) if is_there else None

    def _multiply(
        self, type_name: str, w: Place | None, shape: tuple[int, int], x: Place, y: Place,
        rows: str, *, bias: Place | None = None, scales: Place | None = None,
        weights: Place | None = None, ids: Place | None = None, fan: int = 1, x_fan: int = 1,
        heads: int = 1, added: Place | None = None, experts: int = 0, fewest: int = 1,
    ) -> None:  # fmt: skip
        """Emit products; runs of less than `fewest` rows do without."""
        (n, k), options = shape, (ids, bias, scales, weights, added)
        scheme = scheme_of(type_name, k, heads, is_exact=self.exact)
        sizes = scheme.sizes(experts if ids else 0)
        sources = {kind: x for kind in (scheme.few, *(kind for *_, kind in sizes))}
        width, x_rows = heads * k, fan // x_fan
        if INT8 in sources:
            sources[INT8] = self.rounded(x, rows, width, x_rows)
        if HALF in sources:
            least = min(least for _, least, kind in sizes if kind == HALF)
            half = self.halved(
                x, rows, width, x_rows, order=int(formats.get(type_name).scales == "float"),
                least=max(least // x_fan, 1),
            )  # fmt: skip
            if INT8 in sources and is_integer(type_name, self.chip):
                del sources[HALF]
            else:
                sources[HALF] = half
        product = Product(
            type_name, n, k, heads, scheme, sources,
            (self.count(rows, fan), w, y, bias, scales, weights), added, ids,
            (n, k, x.stride, y.stride, added.stride if added else 0, x_fan, heads),
            tuple(int(place is not None) for place in options), self.chip,
        )  # fmt: skip
        grouped = self.grouped(ids, rows, fan, experts, scheme) if ids else None
        forms = product.vectors() + product.tiles(grouped)
        self.emit_forms([form for form in forms if form.least >= fewest], [y], rows, fan=fan)


def _matmul(lowering: CudaLowering, node: Node) -> None:
    (x,), (name, bias), out = node.inputs, node.weights, node.outputs[0]
    addition, added, gated = lowering.addition_after(node), None, lowering.gated.get(node.name)
    if addition:
        out, added = addition[0].outputs[0], lowering.place(addition[1])
        lowering.done.add(addition[0].name)
    lowering.product(
        lowering.weights[name], lowering.place(x), lowering.new(out), x.rows,
        bias=lowering.vector(bias), added=added, fewest=2 if gated else 1,
    )  # fmt: skip
    if gated and node is gated.last:
        emit_gated(lowering, gated)


def _rope(lowering: CudaLowering, node: Node) -> None:
    _heads_or(gpu_core.rope, lowering, node)


def _norm(lowering: CudaLowering, node: Node) -> None:
    _heads_or(rms_norm, lowering, node)


def _heads_or(
    otherwise: Callable[[CudaLowering, Node], None], lowering: CudaLowering, node: Node
) -> None:
    """Emit all that an attention needs of its heads if this is the first of it."""
    if node.name in lowering.heads:
        emit_heads(lowering, lowering.heads[node.name])
    else:
        otherwise(lowering, node)


CudaLowering.own = {
    **OPS, "matmul": _matmul, "rope": _rope, "rms_norm": _norm, "attention": attention,
}  # fmt: skip
