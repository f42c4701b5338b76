"""Matrix products with float32 activations: float weights, and every format in exact mode.

As in `matmul`, lanes are rows of W and every output adds its columns in ascending order by fma, so
its bits do not depend on what else is computed. With one row of x the weights of F16, BF16 and F32
are read straight; otherwise row blocks become float32 in a scratch, SPAN columns at a time.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels import level as levels
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.tile import add_outer, load_tile, one, store_tile
from jitllm.kernels.cpu.weights import float_reader, value_writer
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    stack_bytes,
    store_f32x16,
)

ROWS = packed.ROWS
SPAN = 512  # columns unpacked at a time: 32 KB for 16 rows; a multiple of 256
CHAIN_BYTES = 256
CHAINS = 4  # row blocks at once with one row of x: a lone fma chain waits for each result


@inline
def _finish(total, y, row, bias, residual):
    if bias != 0:
        total = total + load_f32x16(bias + 4 * row)
    if residual != 0:
        total = load_f32x16(residual + 4 * row) + total
    store_f32x16(y + 4 * row, total)


def _vector_products(fmt: str):
    """Return f(weights, stride, x, k, target): CHAINS row blocks times one row of x."""
    read, size = float_reader(fmt), packed.unit_bytes(fmt)

    @helper
    def multiply(weights, stride, x, k, target):
        a = b = c = d = splat_f32(0.0)
        for i in range(k):
            at, value = weights + i * size, splat_f32(load_f32(x + 4 * i))
            a = fma(read(at), value, a)
            b = fma(read(at + stride), value, b)
            c = fma(read(at + 2 * stride), value, c)
            d = fma(read(at + 3 * stride), value, d)
        store_f32x16(target, a)
        store_f32x16(target + 64, b)
        store_f32x16(target + 128, c)
        store_f32x16(target + 192, d)

    return multiply


def _one_row(fmt: str):
    """Return f(args, n_threads, counter): all of W times one row of x, read as it is packed."""
    products, size = _vector_products(fmt), packed.unit_bytes(fmt)

    @helper
    def one_row(args, n_threads, counter):
        weights, width, k = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
        x, y = load_i64(args + 40), load_i64(args + 56)
        bias, residual = load_i64(args + 72), load_i64(args + 80)
        blocks, target = (width + ROWS - 1) // ROWS, stack_bytes(CHAIN_BYTES)
        start = atomic_add(counter, CHAINS)
        while start < blocks:
            here = min(CHAINS, blocks - start)
            stride = k * size if here == CHAINS else 0
            for block in range(start, start + here, CHAINS if stride else 1):
                products(weights + block * k * size, stride, x, k, target)
                for i in range(CHAINS if stride else 1):
                    row = (block + i) * ROWS
                    _finish(load_f32x16(target + 64 * i), y, row, bias, residual)
            start = atomic_add(counter, CHAINS)

    return one_row


def _tile_product(n: int):
    """Return f(block, x, ldx, k, target): 16 rows of W (float32 [k][16]) times n rows of x.

    The n sums at `target` are continued, so that columns may come in several spans.
    """

    @helper
    def multiply(block, x, ldx, k, target):
        acc = load_tile(n, target, 64)
        for i in range(k):
            acc = add_outer(acc, one(load_f32x16(block + 64 * i)), x + 4 * i, ldx)
        store_tile(acc, target)

    return multiply


def span_adder():
    """Return f(values, sums, x, ldx, columns, rows): `_tile_product` for any number of rows."""
    n = 12 if levels.current().name == "avx512vnni" else 4
    tiles, single = _tile_product(n), _tile_product(1)

    @helper
    def add_span(values, sums, x, ldx, columns, rows):
        row = 0
        while row + n <= rows:
            tiles(values, x + row * ldx, ldx, columns, sums + 64 * row)
            row += n
        while row < rows:
            single(values, x + row * ldx, ldx, columns, sums + 64 * row)
            row += 1

    return add_span


def _many_rows(fmt: str):
    """Return f(args, rows, scratch, counter): any number of rows of x, W unpacked span by span.

    The sums of a row block, float32 [rows][16], stand in the scratch behind the unpacked span.
    """
    write, add_span = value_writer(fmt), span_adder()
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))

    @helper
    def many_rows(args, rows, scratch, counter):
        weights, width, k = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
        x, ldx, y, ldy = (
            load_i64(args + 40), load_i64(args + 48), load_i64(args + 56), load_i64(args + 64),
        )  # fmt: skip
        bias, residual, ldr = load_i64(args + 72), load_i64(args + 80), load_i64(args + 88)
        blocks, block_bytes = (width + ROWS - 1) // ROWS, k // per_unit * unit
        sums = scratch + 64 * SPAN
        block = atomic_add(counter, 1)
        while block < blocks:
            for row in range(rows):
                store_f32x16(sums + 64 * row, splat_f32(0.0))
            for start in range(0, k, SPAN):
                columns = min(SPAN, k - start)
                write(weights + block * block_bytes, scratch, start, columns)
                add_span(scratch, sums, x + 4 * start, ldx, columns, rows)
            for row in range(rows):
                other = residual + row * ldr if residual != 0 else 0
                total = load_f32x16(sums + 64 * row)
                _finish(total, y + row * ldy, block * ROWS, bias, other)
            block = atomic_add(counter, 1)

    return many_rows


def matmul(*, fmt: str):
    """Return the kernel of `abi.MATMUL_FLOAT` for weights of any format."""
    many_rows = _many_rows(fmt)
    straight = formats.get(fmt).scales == "float"
    one_row = _one_row(fmt) if straight else None

    def matmul_float(args, thread, n_threads, counter):
        rows = load_i64(load_i64(args) + 8 * load_i64(args + 8))
        scratch = load_i64(args + 96) + thread * load_i64(args + 104)
        if straight and rows == 1:
            one_row(args, n_threads, counter)
        elif rows > 0:
            many_rows(args, rows, scratch, counter)

    return matmul_float
