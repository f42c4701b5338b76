"""Parts of a page as right sides of products (`_fragments`), in float16, of any cache type.

A lane reads four rows of eight numbers at a time: of keys, which lie [items, 64], four columns of
eight keys; of values, [64, items], eight columns of four cells. A row becomes four words. Where
there is no cache, the cells of a page are 64 rows of float32 values, `step` bytes apart.

All that ask for cells `first` to `last` read no others: the nearest within stands for one that is
outside, as its weight is 0.
"""

from jitllm.kernels import formats
from jitllm.kernels.cache_types import is_quantized
from jitllm.kernels.cuda._fragments import pack
from jitllm.kernels.cuda._layout import has_whole_chunks
from jitllm.kernels.cuda._page_codes import quantized_key_reader, quantized_value_row
from jitllm.kernels.cuda._run import PAGE
from jitllm.kernels.gpu.vocabulary import (
    as_f32,
    inline,
    load_f32x4,
    load_i32x4,
    to_i32,
    unroll,
)


@inline
def _f32_row(at, rows, k):
    for i in unroll(2):
        x = load_f32x4(at + 16 * i)
        rows[4 * k + 2 * i] = pack(x[0], x[1])
        rows[4 * k + 2 * i + 1] = pack(x[2], x[3])


@inline
def _f16_row(at, rows, k):
    words = load_i32x4(at)
    for i in unroll(4):
        rows[4 * k + i] = words[i]


@inline
def _bf16_row(at, rows, k):
    words = load_i32x4(at)
    for i in unroll(4):
        low, high = as_f32(to_i32(words[i] << 16)), as_f32(to_i32(words[i] & 0xFFFF0000))
        rows[4 * k + i] = pack(low, high)


_ROWS = {"f32": (4, _f32_row), "f16": (2, _f16_row), "bf16": (2, _bf16_row)}


# --- keys ---------------------------------------------------------------------------------------


@inline
def read_key_rows(keys, step, d, c, r, first, last, words):
    """Read columns d + 4 r to d + 4 r + 3 of keys 8 c to 8 c + 7, two words for each key."""
    for j in unroll(8):
        cell = min(max(to_i32(8 * c + j), first), last)
        x = load_f32x4(keys + step * cell + 4 * (d + 4 * r))
        words[2 * j], words[2 * j + 1] = pack(x[0], x[1]), pack(x[2], x[3])


def key_reader(kind):
    """Make read(keys, d, part, c, r, scales, rows), begin(keys, d, c, scales), and their columns.

    The first reads columns d + 16 part + 4 r to + 3 of keys 8 c to 8 c + 7; the second, first
    of all for a d, what all parts of these columns need, of which there are 16 or 32. `keys` is the
    address of a head's keys in a page. Cells that no query sees are read too.
    """
    if is_quantized(kind):
        return quantized_key_reader(formats.get(kind.upper()))
    size, row = _ROWS[kind]
    step = size * PAGE

    @inline
    def begin(keys, d, c, scales):
        pass

    @inline
    def read(keys, d, part, c, r, scales, rows):
        at = keys + step * (d + 16 * part + 4 * r) + 8 * size * c
        for k in unroll(4):
            row(at + step * k, rows, k)

    return read, begin, 16


# --- values -------------------------------------------------------------------------------------


def value_reader(kind, dv):
    """Make f(values, step, j, first, last, column, rows): eight columns of cells j to j + 3.

    j, `first` and `last` are int32, from the cell at `values` on; cells lie `step` bytes apart.
    Columns behind the last are 0.
    """
    row, is_whole = value_row(kind), has_whole_chunks(dv)

    @inline
    def read(values, step, j, first, last, column, rows):
        if is_whole or column < dv:
            for k in unroll(4):
                cell = min(max(to_i32(j + k), first), last)
                row(values + step * cell, column, rows, k)
        else:
            for i in unroll(16):
                rows[i] = to_i32(0)

    return read


def value_row(kind):
    """Make f(at, column, rows, k): columns `column` to column + 7 of the value at `at` as row k."""
    if is_quantized(kind):
        return quantized_value_row(formats.get(kind.upper()))
    size, load = _ROWS[kind]

    @inline
    def row(at, column, rows, k):
        load(at + size * column, rows, k)

    return row
