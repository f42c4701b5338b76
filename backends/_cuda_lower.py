"""Lowering to CUDA's own products and attention; all else is `_gpu_lower`'s.

Activations are rounded to int8 once for all products that read a value. A product whose only reader
is an addition adds the other operand itself, unless its output is tapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jitllm.backends import _gpu_core
from jitllm.backends._cuda_attention import attention
from jitllm.backends._gpu_lower import Form, Lowering, Place
from jitllm.backends.ir import Node, Value
from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._layout import GROUP, GROUP_BYTES

BUSY_WARPS = 4224  # 32 for each of 132 multiprocessors
VECTOR_ROWS, TILE_ROWS = (1, 2, 4, 8), (16, 32, 64)  # of x at a time: of few rows, of many
EXACT_VECTOR_ROWS, EXACT_TILE_ROWS = (1, 2, 4), (32, 64)


@dataclass(frozen=True, slots=True)
class Product:
    """y = x w^T, as kernels get it: of (n, k), or of one for each of `heads`."""

    type_name: str
    n: int
    k: int
    heads: int
    is_exact: bool
    addresses: tuple[Place | None, ...]  # rows, w, x, y, bias, scales, weights
    residual: Place | None
    words: tuple[int, ...]
    flags: tuple[int, ...]

    def vectors(self, ids: Place | None) -> list[Form]:
        """Return the forms for few rows; with `ids` they take one row at a time."""
        name = f"matvec{'_float' * self.is_exact}.{self.type_name.lower()}"
        blocks = -(-self.n // packed.ROWS) * self.heads
        split = _split(blocks, self.k, 8)
        tiles = EXACT_VECTOR_ROWS if self.is_exact else VECTOR_ROWS
        return [
            Form(
                name, (tile, split, *self.flags), (*self.addresses, ids, self.residual),
                self.words, -(-blocks * split // 8), tile, tile // 2 + 1,
            )
            for tile in (tiles[:1] if ids else tiles)
        ]  # fmt: skip

    def tiles(self) -> list[Form]:
        """Return the forms for many rows."""
        addresses = (*self.addresses, None, None, self.residual)
        if self.is_exact:
            name, groups = f"matmul_float.{self.type_name.lower()}", -(-self.n // 64) * self.heads
            return [
                Form(name, (rows, *self.flags), addresses, self.words, groups, rows, rows // 2 + 1)
                for rows in EXACT_TILE_ROWS
            ]
        name, pairs = f"matmul.{self.type_name.lower()}", -(-self.n // 32)
        forms = list[Form]()
        for rows in TILE_ROWS:
            split = 1 if rows == 64 else _split(pairs * self.heads, self.k, 4)
            forms.append(Form(
                name, (rows, split, *self.flags), addresses, self.words,
                -(-pairs * split // 4) * self.heads, rows, rows // 2 + 1,
            ))  # fmt: skip
        return forms


def _split(units: int, k: int, most: int) -> int:
    """Return how many warps share outputs: few units need more, each with 8 groups of columns."""
    split = 1
    while split < most and units * split < BUSY_WARPS and k >= 16 * GROUP * split:
        split *= 2
    return split


class CudaLowering(Lowering):
    """Makes the dispatches of one graph for CUDA.

    Parameters
    ----------
    exact : bool
        Keep activations in float32.
    *arguments, **options
        Those of `Lowering`.
    """

    def __init__(self, exact: bool, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.exact = exact
        self.added: set[str] = set()  # additions that a product does
        self._rounded: dict[tuple[Place, str, int], Place] = {}
        self._readers_of: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            for value in node.inputs:
                self._readers_of.setdefault(value.id, []).append(node)

    # --- int8 activations ---

    def rounded(self, x: Place, rows: str, width: int, fan: int) -> Place:
        """Return the int8 rows of x, `fan` for each row of the run; made once for all readers."""
        key = x, rows, fan
        if key not in self._rounded:
            q = self.take_bytes(rows, width // GROUP * GROUP_BYTES * fan)
            self.emit(
                "quantize", [self.count(rows, fan), x, q], [x.stride, width], [q],
                groups=-(-width // 256), rows=rows, fan=fan,
            )  # fmt: skip
            self._rounded[key] = q
        return self._rounded[key]

    def give(self, place: Place) -> None:
        """Let later dispatches use the memory, and that of int8 rows of what was there."""
        super().give(place)
        self._forget_rounded([place])

    def emit_forms(
        self, forms: Sequence[Form], writes: Sequence[Place], rows: str, **options: int
    ) -> None:
        """Add a dispatch; int8 rows of what it writes count no more."""
        super().emit_forms(forms, writes, rows, **options)
        self._forget_rounded(writes)

    def _forget_rounded(self, places: Sequence[Place]) -> None:
        for key in [key for key in self._rounded if any(key[0].meets(p) for p in places)]:
            super().give(self._rounded.pop(key))

    # --- products ---

    def dot(self, name: str, x: Place, y: Place, width: int, rows: str) -> None:
        """Emit the product of each row with a small weight, as a matrix of one row."""
        matrix = np.zeros((width, packed.ROWS), np.float32)
        matrix[:, 0] = self.vectors[name]
        self._multiply("F32", self.constant(matrix), (1, width), x, y, rows)

    def addition_after(self, node: Node) -> tuple[Node, Value] | None:
        """Return the addition that can be part of a product, and its other operand."""
        out = node.outputs[0]
        readers = self._readers_of.get(out.id, [])
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
        heads: int = 1, added: Place | None = None,
    ) -> None:  # fmt: skip
        n, k = shape
        if heads > 1 and n % packed.ROWS and len(self.weights[self.node.weights[0]].shape) == 2:
            raise self.lacking(f"has heads of {n} rows, which is no multiple of {packed.ROWS}")
        is_exact = self.exact or formats.get(type_name).scales == "float"
        source = x if is_exact else self.rounded(x, rows, heads * k, fan // x_fan)
        options = ids, bias, scales, weights, added
        product = Product(
            type_name, n, k, heads, is_exact,
            (self.count(rows, fan), w, source, y, bias, scales, weights), added,
            (n, k, x.stride, y.stride, added.stride if added else 0, x_fan, heads),
            tuple(int(place is not None) for place in options),
        )  # fmt: skip
        forms = product.vectors(ids) + ([] if ids else product.tiles())
        self.emit_forms(forms, [y], rows, fan=fan)


def _matmul(lowering: CudaLowering, node: Node) -> None:
    (x,), (name, bias), out = node.inputs, node.weights, node.outputs[0]
    addition, added = lowering.addition_after(node), None
    if addition:
        out, added = addition[0].outputs[0], lowering.place(addition[1])
        lowering.added.add(addition[0].name)
    lowering.product(
        lowering.weights[name], lowering.place(x), lowering.new(out), x.rows,
        bias=lowering.vector(bias), added=added,
    )  # fmt: skip


def _add(lowering: CudaLowering, node: Node) -> None:
    if node.name not in lowering.added:
        _gpu_core.two_operands(lowering, node, _gpu_core.ADD)


CudaLowering.own = {"matmul": _matmul, "add": _add, "attention": attention}
