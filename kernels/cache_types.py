"""Types of cached keys and values, and their rows in NumPy.

A cache has one type for keys and one for values. Float types keep numbers; the others, which
weights have too, keep blocks of 32 numbers of a row (a key or a value of one head). Before a row is
quantized it is multiplied with a Hadamard matrix where its length is a multiple of 64: what stands
out in one column is spread over all, and products of two such rows stay the same (Ashkboos et al.,
"QuaRot", 2024; types, formulas and sizes of the matrices are llama.cpp's).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats
from jitllm.kernels.formats import iq4_nl

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

PAGE_TOKENS = 64  # cells of one page; attention walks a cache in steps of one page

FLOATS = ("f32", "f16", "bf16")
QUANTIZED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
NAMES = FLOATS + QUANTIZED

MIN_HADAMARD = 64  # columns of the smallest Hadamard matrix, the one for values
MAX_HADAMARD = 1024

_DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": np.dtype(np.uint16),
}  # fmt: skip


def spelled(kv_dtype: str | Iterable[str]) -> str:
    """Return the name of a cache's types: "q8_0", or "q8_0/q4_0" for keys and values.

    Parameters
    ----------
    kv_dtype : str or pair of str
        One type for both, or two, joined by "/" or as a pair.

    Raises
    ------
    ValueError
        If a type is not one of `NAMES`.
    """
    kinds = kv_dtype.split("/") if isinstance(kv_dtype, str) else list(kv_dtype)
    if len(kinds) not in (1, 2) or not all(kind in NAMES for kind in kinds):
        raise ValueError(
            f"kv_dtype must be one of {', '.join(NAMES)}, or two of them for keys and values such "
            f'as "q8_0/q4_0", got {kv_dtype!r:.80}'
        )
    return kinds[0] if len(set(kinds)) == 1 else "/".join(kinds)


def pair(kv_dtype: str) -> tuple[str, str]:
    """Return the types of keys and of values."""
    kinds = spelled(kv_dtype).split("/")
    return kinds[0], kinds[-1]


def is_quantized(kind: str) -> bool:
    """Return whether a type keeps blocks instead of numbers."""
    return kind in QUANTIZED


def row_bytes(kind: str, width: int) -> int:
    """Return the bytes of a row of `width` numbers; ValueError if it is not whole blocks."""
    if not is_quantized(kind):
        return width * _DTYPES[kind].itemsize
    fmt = formats.get(kind.upper())
    if width % fmt.block_size:
        raise ValueError(
            f"a cache of type {kind} needs heads of a multiple of {fmt.block_size} numbers, this "
            f"model's have {width}; use one of {', '.join(FLOATS)}"
        )
    return width // fmt.block_size * fmt.block_bytes


def hadamard_of_keys(width: int) -> int:
    """Return the size of the Hadamard matrix for quantized keys: the largest, 0 for none."""
    size = hadamard_of_values(width)
    if not size:
        return 0
    while size < MAX_HADAMARD and width % (2 * size) == 0:
        size = 2 * size
    return size


def hadamard_of_values(width: int) -> int:
    """Return the size of the Hadamard matrix for quantized values: the smallest, 0 for none."""
    return 0 if width % MIN_HADAMARD or not width else MIN_HADAMARD


def rotated(x: Floats, size: int) -> Floats:
    """Multiply each `size` columns with the Hadamard matrix, which is its own inverse; 0 for none.

    Sums are of two at a time, neighbours first, in float32: the order of the kernels.
    """
    if not size:
        return x
    parts, step = x.astype(np.float32).reshape(-1, size), 1
    while step < size:
        pairs = parts.reshape(-1, size // (2 * step), 2, step)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        parts = np.stack([a + b, a - b], axis=2).reshape(-1, size)
        step *= 2
    out: Floats = (parts * (np.float32(1) / np.sqrt(np.float32(size)))).reshape(x.shape)
    return out


@dataclass(frozen=True)
class Rows:
    """How keys, or values, of one layer are stored.

    Attributes
    ----------
    kind : str
    heads, width : int
    hadamard : int
        Columns of the Hadamard matrix that rotates rows, 0 for none.
    is_key : bool
    """

    kind: str
    heads: int
    width: int
    hadamard: int
    is_key: bool

    @property
    def nbytes(self) -> int:
        """Bytes of one cell, over all heads."""
        return self.heads * row_bytes(self.kind, self.width)

    @property
    def n_items(self) -> int:
        """Stored items of one row."""
        return row_bytes(self.kind, self.width) // self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored items: numbers (of bf16 their bits), or bytes of blocks."""
        return _DTYPES.get(self.kind, np.dtype(np.uint8))

    def encode(self, x: Floats) -> Array:
        """Return float32 rows [..., width] as items [..., n]."""
        if x.size == 0:
            return np.empty((*x.shape[:-1], self.n_items), self.dtype)
        x = rotated(x, self.hadamard)
        if not is_quantized(self.kind):
            return _narrowed(self.kind, x)
        if self.kind == "iq4_nl":
            return iq4_nl.quantize_plain(x.reshape(-1, 32)).reshape(*x.shape[:-1], -1)
        return formats.quantize(self.kind.upper(), x)

    def decode(self, items: Array) -> Floats:
        """Return items [..., n] as float32 rows [..., width]."""
        shape = (*items.shape[:-1], self.width)
        if items.size == 0:
            return np.empty(shape, np.float32)
        data = np.ascontiguousarray(items).view(np.uint8)
        return rotated(formats.dequantize(self.kind.upper(), data, shape), self.hadamard)

    def outside(self, data: Bytes, n: int) -> Array:
        """View the bytes of `n` cells outside of pages as [heads, n, items].

        Keys of float types lie there as [heads, items, n], all else as [heads, n, items].
        """
        items = data.view(self.dtype)
        if self.is_key and not is_quantized(self.kind):
            return items.reshape(self.heads, self.n_items, n).swapaxes(1, 2)
        return items.reshape(self.heads, n, self.n_items)


def _narrowed(kind: str, x: Floats) -> Array:
    if kind == "bf16":
        return formats.quantize("BF16", x).view(_DTYPES[kind])
    return x.astype(_DTYPES[kind])


@cache
def rows_of(kv_dtype: str, sizes: tuple[int, int, int]) -> tuple[Rows, Rows]:
    """Return how keys and values of a layer of `sizes` (heads, dk, dv) are stored."""
    heads, dk, dv = sizes
    keys, values = pair(kv_dtype)
    both = (
        Rows(keys, heads, dk, hadamard_of_keys(dk) if is_quantized(keys) else 0, True),
        Rows(values, heads, dv, hadamard_of_values(dv) if is_quantized(values) else 0, False),
    )
    for rows in both:
        row_bytes(rows.kind, rows.width)  # raises where blocks do not fit
    return both


def cell_bytes(kv_dtype: str, layers: Sequence[tuple[int, int, int]]) -> int:
    """Return the bytes of one cell over all layers."""
    return sum(rows.nbytes for sizes in layers for rows in rows_of(kv_dtype, tuple(sizes)))


def page_views(kv_dtype: str, sizes: tuple[int, int, int], page: Bytes) -> tuple[Array, Array]:
    """View a page as keys [G, items, 64] and values [G, 64, items]: as kernels read it."""
    keys, values = rows_of(kv_dtype, sizes)
    heads = page.reshape(keys.heads, -1)
    middle = PAGE_TOKENS * keys.n_items * keys.dtype.itemsize
    k, v = heads[:, :middle].view(keys.dtype), heads[:, middle:].view(values.dtype)
    return (
        k.reshape(keys.heads, keys.n_items, PAGE_TOKENS),
        v.reshape(keys.heads, PAGE_TOKENS, values.n_items),
    )
