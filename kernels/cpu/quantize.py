"""Quantize activations to int8 with one scale per 32 columns (see `packed`, "Activations").

Per 32 columns it reads 128 bytes, writes 60 and does about 40 vector operations, most of them in
three reductions: 512 rows of 1536 columns take about 0.4 ms on one core.
"""

import numpy as np

from jitllm.kernels import abi, packed
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.simd import (
    bits_i32,
    fabs,
    load_f32x16,
    load_i32,
    load_i64,
    narrow_i8,
    reduce_add_i32,
    reduce_max_i32,
    splat_f32,
    splat_i32,
    stack_bytes,
    store_f32,
    store_i8x16,
    store_i32,
    where_gt,
    word_as_f32,
)

MAGIC = np.float32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer, ties to even
MAGIC_BITS = 0x4B400000
TINY = np.float32(1e-30)  # below it 1/scale overflows; such groups become zero
ONE, LIMIT, ZERO = np.float32(1), np.float32(127), np.float32(0)
N, D, S = packed.FIELD_N, packed.FIELD_D, packed.FIELD_S
N_LO, N_HI, S_LO, S_HI = (
    packed.FIELD_N_LO, packed.FIELD_N_HI, packed.FIELD_S_LO, packed.FIELD_S_HI,
)  # fmt: skip
CODES = packed.FIELD_CODES


@inline
def _codes(x, inverse):
    return bits_i32(x * splat_f32(inverse) + splat_f32(MAGIC)) - splat_i32(MAGIC_BITS)


@inline
def quantize_group(low, high, record, row, rows, scratch):
    """Quantize 32 columns of one row into its places in a record of `rows` rows."""
    # As integers, so that a NaN is the maximum and makes the scale, and the product, NaN too.
    a, b = bits_i32(fabs(low)), bits_i32(fabs(high))
    top = word_as_f32(reduce_max_i32(where_gt(a, b, a, b)))
    scale, inverse = ZERO, ZERO
    if not top <= TINY:
        scale = top / LIMIT
        inverse = ONE / scale
    a, b = _codes(low, inverse), _codes(high, inverse)
    sum_a, sum_b = reduce_add_i32(a), reduce_add_i32(b)
    field, step = record + 4 * row, 4 * rows
    store_f32(field + D * step, scale)
    store_i32(field + N * step, -128 * (sum_a + sum_b))
    store_i32(field + N_LO * step, -128 * sum_a)
    store_i32(field + N_HI * step, -128 * sum_b)
    store_f32(field + S * step, scale * np.float32(sum_a + sum_b))
    store_f32(field + S_LO * step, scale * np.float32(sum_a))
    store_f32(field + S_HI * step, scale * np.float32(sum_b))
    store_i8x16(scratch, narrow_i8(a))
    store_i8x16(scratch + 16, narrow_i8(b))
    for chunk in range(8):
        store_i32(field + CODES * step + chunk * step, load_i32(scratch + 4 * chunk))


@inline
def quantize_row(x, tile, row, rows, width, scratch):
    """Quantize a row of `width` floats at `x` into row `row` of a tile of `rows` rows."""
    record, size = tile, packed.RECORD_BYTES_PER_ROW * rows
    for _ in range(width // 32):
        quantize_group(load_f32x16(x), load_f32x16(x + 64), record, row, rows, scratch)
        x += 128
        record += size


@helper
def clear_row(tile, row, rows, width):
    """Make row `row` of a tile all zero: the tile has more rows than there are activations."""
    record, step = tile, 4 * rows
    for _ in range(width // 32):
        for word in range(CODES + 8):
            store_i32(record + word * step + 4 * row, 0)
        record += packed.RECORD_BYTES_PER_ROW * rows


def quantize(*, tile_rows: int):
    """Return the kernel of `abi.QUANTIZE` for tiles of `tile_rows` rows."""

    @helper
    def quantize_tile(args, tile, n, rows, scratch):
        x, ldx = load_i64(args + 16), load_i64(args + 24)
        out, width = load_i64(args + 32), load_i64(args + 40)
        target = out + tile * rows * (width // 32) * packed.RECORD_BYTES_PER_ROW
        for row in range(rows):
            at = tile * rows + row
            if at < n:
                quantize_row(x + at * ldx, target, row, rows, width, scratch)
            else:
                clear_row(target, row, rows, width)

    def quantize_rows(args, thread, n_threads, counter):
        run = load_i64(args)
        n = load_i64(run + 8 * load_i64(args + 8))
        rows = 1 if n == 1 or load_i64(run + 8 * abi.N_TOKENS) == 1 else tile_rows
        scratch = stack_bytes(64)
        tile = atomic_add(counter, 1)
        while tile * rows < n:
            quantize_tile(args, tile, n, rows, scratch)
            tile = atomic_add(counter, 1)

    return quantize_rows
