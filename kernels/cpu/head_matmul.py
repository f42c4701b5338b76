"""Products of heads with a matrix of their own: y[t, h] = W[h] x[t, h].

The dense products of `matmul` and `matmul_float` on the columns of one head, with the same bits; a
unit of work is some row blocks of one head's matrix. For multi-head latent attention (DeepSeek-AI,
"DeepSeek-V2", 2024), whose matrices have a few hundred rows and columns.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels import level as levels
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.matmul import (
    block_span,
    byte_block_bytes,
    tile_product,
    unpacker,
    vector_product,
)
from jitllm.kernels.cpu.matmul_float import SPAN, span_adder
from jitllm.kernels.cpu.tile import take
from jitllm.kernels.cpu.vmath import store_part
from jitllm.kernels.cpu.weights import value_writer
from jitllm.kernels.simd import load_f32x16, load_i64, splat_f32, stack_bytes, store_f32x16

ROWS, RECORD = packed.ROWS, packed.RECORD_BYTES_PER_ROW

# Byte offsets of the argument words; LDX is a word of the float kernel alone.
ROW_WORD, W, N_HEADS, N, K, X, LDX, Y, LDY, MATRIX_BYTES, SCRATCH, SCRATCH_BYTES = range(8, 104, 8)


@inline
def _store(args, row, head, block, value):
    """Store the outputs of row block `block` of a head for row `row` of x."""
    n = load_i64(args + N)
    y = load_i64(args + Y) + row * load_i64(args + LDY) + 4 * (head * n + block * ROWS)
    if n - block * ROWS >= ROWS:
        store_f32x16(y, value)
    else:
        store_part(y, value, n - block * ROWS)


@inline
def _n_rows(args):
    return load_i64(load_i64(args) + 8 * load_i64(args + ROW_WORD))


def matmul(*, fmt: str):
    """Make the kernel for weights of a quantized format; x is quantized, K a multiple of 32."""
    m, n = levels.current().tile
    vectors, tiles, unpack = vector_product(fmt), tile_product(fmt, m, n), unpacker(fmt)
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))
    size, tile_bytes = byte_block_bytes(formats.get(fmt)), 64 * m * n

    @helper
    def one_row(args, n_threads, counter):
        k, n_heads = load_i64(args + K), load_i64(args + N_HEADS)
        blocks = (load_i64(args + N) + ROWS - 1) // ROWS
        span = max(1, n_heads * blocks // (8 * n_threads))
        start = atomic_add(counter, span)
        while start < n_heads * blocks:
            for item in range(start, min(start + span, n_heads * blocks)):
                head, block = item // blocks, item % blocks
                matrix = load_i64(args + W) + head * load_i64(args + MATRIX_BYTES)
                x = load_i64(args + X) + head * (k // 32) * RECORD
                acc = vectors(matrix + block * (k // per_unit * unit), x, k)
                _store(args, 0, head, block, take(acc, 0))
            start = atomic_add(counter, span)

    @helper
    def span_of_head(args, rows, head, start, stop, scratch, tile):
        """Multiply row blocks start..stop of one head by its columns of all rows."""
        k, row_records = load_i64(args + K), load_i64(args + N_HEADS) * (load_i64(args + K) // 32)
        matrix, stride = load_i64(args + W) + head * load_i64(args + MATRIX_BYTES), k // 32 * size
        for block in range(start, stop):
            source = matrix + block * (k // per_unit * unit)
            unpack(source, scratch + (block - start) * stride, k)
        for row in range(0, rows, n):
            records = load_i64(args + X) + (row * row_records + n * head * (k // 32)) * RECORD
            for block in range(start, stop, m):
                here = min(m, stop - block)
                step = stride if here == m else 0
                tiles(scratch + (block - start) * stride, step, records, k, tile)
                for j in range(min(n, rows - row)):
                    for i in range(here):
                        value = load_f32x16(tile + 64 * (i * n + j))
                        _store(args, row + j, head, block + i, value)

    @helper
    def many_rows(args, rows, scratch, n_threads, counter):
        tile, n_heads = stack_bytes(tile_bytes), load_i64(args + N_HEADS)
        blocks = (load_i64(args + N) + ROWS - 1) // ROWS
        span = block_span(blocks, load_i64(args + K) // 32 * size, n_threads)
        spans = (blocks + span - 1) // span
        item = atomic_add(counter, 1)
        while item < n_heads * spans:
            start = item % spans * span
            stop = min(start + span, blocks)
            span_of_head(args, rows, item // spans, start, stop, scratch, tile)
            item = atomic_add(counter, 1)

    def head_matmul(args, thread, n_threads, counter):
        rows = _n_rows(args)
        if rows == 1:
            one_row(args, n_threads, counter)
        elif rows > 1:
            scratch = load_i64(args + SCRATCH) + thread * load_i64(args + SCRATCH_BYTES)
            many_rows(args, rows, scratch, n_threads, counter)

    return head_matmul


def matmul_float(*, fmt: str):
    """Make the kernel for weights of any format and float32 rows x."""
    write, add_span = value_writer(fmt), span_adder()
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))

    @helper
    def block_of_head(args, rows, head, block, scratch):
        """Multiply one row block of one head by its columns of all rows."""
        k, ldx = load_i64(args + K), load_i64(args + LDX)
        x = load_i64(args + X) + 4 * head * k
        source = load_i64(args + W) + head * load_i64(args + MATRIX_BYTES)
        source += block * (k // per_unit * unit)
        sums = scratch + 64 * SPAN
        for row in range(rows):
            store_f32x16(sums + 64 * row, splat_f32(0.0))
        for start in range(0, k, SPAN):
            columns = min(SPAN, k - start)
            write(source, scratch, start, columns)
            add_span(scratch, sums, x + 4 * start, ldx, columns, rows)
        for row in range(rows):
            _store(args, row, head, block, load_f32x16(sums + 64 * row))

    def head_matmul(args, thread, n_threads, counter):
        rows, n_heads = _n_rows(args), load_i64(args + N_HEADS)
        scratch = load_i64(args + SCRATCH) + thread * load_i64(args + SCRATCH_BYTES)
        blocks = (load_i64(args + N) + ROWS - 1) // ROWS
        item = atomic_add(counter, 1)
        while item < n_heads * blocks:
            block_of_head(args, rows, item // blocks, item % blocks, scratch)
            item = atomic_add(counter, 1)

    return head_matmul
