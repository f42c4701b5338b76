"""Matrix products with packed quantized weights: y = x W^T + bias, one family for all types.

Lanes of a vector are rows of W. Every output is one lane of one accumulator, which adds its groups
in ascending order by explicit fma, so its bits depend on neither the number of rows of x, nor on
tiles, threads or vector width: one row of x and many give the same.

Data first. With one row of x each weight is read once: at 4.5 bits and 25 GB/s a core has 12 ns for
16 x 32 weights, and spends about 40 vector instructions on them. With many, a few row blocks are
unpacked to bytes once for all rows of x; then 16 x 32 weights and one row of x take 8 dot products
and 2 (3 with an offset) float operations on the two multiply ports: 430 (390) GMAC/s on a 4.1 GHz
Zen 5 core when nothing else stalls it.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels import level as levels
from jitllm.kernels.atomics import atomic_add, prefetch
from jitllm.kernels.cpu.codes import loader, store_chunks
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.tile import (
    add_outer,
    add_scaled,
    dot_memory,
    dot_registers,
    load_tile,
    one,
    starts,
    store_tile,
    take,
    zero_starts,
    zeros,
)
from jitllm.kernels.cpu.weights import offset_reader, scale_reader
from jitllm.kernels.simd import (
    load_f32x16,
    load_i64,
    stack_bytes,
    store_f32x16,
)

ROWS = packed.ROWS
# One row of x: how far ahead weights are asked for. The core's own prefetcher falls behind where a
# line takes many instructions: without this Q5_0 reads 15 GB/s, with it 35 (one Zen 5 core).
AHEAD = 4096
TILE_BLOCKS = levels.current().tile[0]
N, D, S = packed.FIELD_N, packed.FIELD_D, packed.FIELD_S
N_LO, N_HI, S_LO, S_HI = (
    packed.FIELD_N_LO, packed.FIELD_N_HI, packed.FIELD_S_LO, packed.FIELD_S_HI,
)  # fmt: skip
CODES, RECORD = packed.FIELD_CODES, packed.RECORD_BYTES_PER_ROW
SCRATCH_BLOCKS = 8  # most row blocks unpacked at a time,
SCRATCH_BYTES = 384 << 10  # and most bytes, so that they stay in the second-level cache


def _halves(fmt: formats.Format):
    """Return (fields of the sums, first chunk, chunks) of each group in 32 columns."""
    if fmt.group == 32:
        return ((N, S, 0, 8),)
    return ((N_LO, S_LO, 0, 4), (N_HI, S_HI, 4, 4))


def _begin(fmt: formats.Format, m: int, n: int, field: int, bias: int):
    """Return f(x) -> integer sums before the first product: -center * sum of x's codes."""
    shift = 7 - ((fmt.dot_center + bias).bit_length() - 1)  # centers are powers of two
    is_signed = fmt.dot_center == 128 and levels.current().signed_dot  # then the product has it

    @inline
    def centered(x):
        return starts(m, n, x + 4 * n * field, shift)

    @inline
    def zero(x):
        return zero_starts(m, n)

    return centered if fmt.dot_center and not is_signed else zero


def _packed_group(fmt: str, half: int):
    """Return f(acc, codes, header, group, x): one group from registers, one row of x."""
    layout = formats.get(fmt)
    n_field, s_field, first, count = _halves(layout)[half]
    begin, bits = _begin(layout, 1, 1, n_field, 0), layout.dot_bits
    has_offset = layout.scales in ("dm", "k_dm")
    scale_of = scale_reader(fmt)
    offset_of = offset_reader(fmt) if has_offset else scale_of

    @inline
    def add_group(acc, codes, header, group, x):
        sums = dot_registers(begin(x), codes, x + 4 * CODES, first, count, bits)
        acc = add_scaled(acc, sums, one(scale_of(header, group)), x + 4 * D)
        if has_offset:
            acc = add_outer(acc, one(offset_of(header, group)), x + 4 * s_field, 0)
        return acc

    return add_group


def _byte_group(fmt: str, m: int, n: int, half: int):
    """Return f(acc, block, stride, x): the same from unpacked row blocks, n rows of x.

    Must do what `_packed_group` does, in the same order.
    """
    layout = formats.get(fmt)
    n_field, s_field, first, count = _halves(layout)[half]
    begin = _begin(layout, m, n, n_field, _bias(layout))
    bits = 8 if _bias(layout) else layout.dot_bits
    has_offset = layout.scales in ("dm", "k_dm")
    scale_at = 512 + 64 * half
    offset_at = scale_at + 64 * len(_halves(layout))

    @inline
    def add_group(acc, block, stride, x):
        sums = dot_memory(begin(x), m, block, stride, x + 4 * n * CODES, first, count, bits)
        acc = add_scaled(acc, sums, load_tile(m, block + scale_at, stride), x + 4 * n * D)
        if has_offset:
            acc = add_outer(acc, load_tile(m, block + offset_at, stride), x + 4 * n * s_field, 4)
        return acc

    return add_group


def _bias(fmt: formats.Format) -> int:
    """Return what unpacked codes get added: to 128, where -128 * sum needs no shift."""
    center = fmt.dot_center
    return 128 - center if center and not levels.current().signed_dot else 0


def byte_block_bytes(fmt: formats.Format) -> int:
    """Return the bytes that 16 rows of 32 weights take once unpacked: codes, scales, offsets."""
    parts = 2 if fmt.scales in ("dm", "k_dm") else 1
    return 512 + 64 * parts * len(_halves(fmt))


def unpacker(fmt: str):
    """Return f(weights, target, k): unpack one row block for `_byte_group`."""
    layout = formats.get(fmt)
    load_codes, scale_of = loader(layout.planes, _bias(layout), layout.table), scale_reader(fmt)
    has_offset, parts = layout.scales in ("dm", "k_dm"), len(_halves(layout))
    offset_of = offset_reader(fmt) if has_offset else scale_of
    per_unit, unit = packed.unit_weights(layout), packed.unit_bytes(fmt)
    header_bytes, step, size = (
        packed.header_bytes(layout),
        64 * layout.bits,
        byte_block_bytes(layout),
    )

    @helper
    def unpack(weights, target, k):
        for i in range(k // 32):
            header = weights + i * 32 // per_unit * unit
            group = i % (per_unit // 32)
            store_chunks(load_codes(header + header_bytes + group * step), target)
            for part in range(parts):
                at = target + 512 + 64 * part
                store_f32x16(at, scale_of(header, group * parts + part))
                if has_offset:
                    store_f32x16(at + 64 * parts, offset_of(header, group * parts + part))
            target += size

    return unpack


@inline
def _finish(total, y, row, bias, residual):
    """Store 16 outputs that start at W's row `row`; bias and residual are addresses or 0."""
    if bias != 0:
        total = total + load_f32x16(bias + 4 * row)
    if residual != 0:
        total = load_f32x16(residual + 4 * row) + total
    store_f32x16(y + 4 * row, total)


def vector_product(fmt: str):
    """Return f(weights, x, k) -> tile of one f32x16: 16 rows of W times one row of x."""
    layout = formats.get(fmt)
    load_codes = loader(layout.planes, table=layout.table)
    parts = len(_halves(layout))
    first, second = _packed_group(fmt, 0), _packed_group(fmt, parts - 1)
    per_unit, unit = packed.unit_weights(layout), packed.unit_bytes(fmt)
    header_bytes, step = packed.header_bytes(layout), 64 * layout.bits
    lines = header_bytes if layout.bits < 8 else 0

    @helper
    def multiply(weights, x, k):
        acc = zeros(1)
        for _ in range(k // per_unit):
            for line in range(0, lines, 64):
                prefetch(weights + AHEAD + line)
            for i in range(per_unit // 32):
                at = weights + header_bytes + i * step
                for line in range(0, step if lines else 0, 64):
                    prefetch(at + AHEAD + line)
                codes = load_codes(at)
                acc = first(acc, codes, weights, i * parts, x)
                if parts == 2:
                    acc = second(acc, codes, weights, i * parts + 1, x)
                x += RECORD
            weights += unit
        return acc

    return multiply


def tile_product(fmt: str, m: int, n: int):
    """Return f(block, stride, x, k, target): m row blocks times n rows of x, stored at target."""
    layout = formats.get(fmt)
    parts, size = len(_halves(layout)), byte_block_bytes(layout)
    first, second = _byte_group(fmt, m, n, 0), _byte_group(fmt, m, n, parts - 1)
    vectors = m * n

    @helper
    def multiply(block, stride, x, k, target):
        acc = zeros(vectors)
        for _ in range(k // 32):
            acc = first(acc, block, stride, x)
            if parts == 2:
                acc = second(acc, block, stride, x)
            block += size
            x += n * RECORD
        store_tile(acc, target)

    return multiply


@helper
def block_span(blocks, stride, n_threads):
    """Return how many row blocks to unpack at a time; the scratch must hold them."""
    limit = max(
        TILE_BLOCKS, min(SCRATCH_BLOCKS, SCRATCH_BYTES // stride // TILE_BLOCKS * TILE_BLOCKS)
    )
    return min(limit, (blocks // (4 * n_threads) + TILE_BLOCKS) // TILE_BLOCKS * TILE_BLOCKS)


def matmul(*, fmt: str):
    """Return the kernel of `abi.MATMUL` for weights of a quantized format."""
    m, n = levels.current().tile
    vectors, tiles, unpack = vector_product(fmt), tile_product(fmt, m, n), unpacker(fmt)
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))
    size, tile_bytes = byte_block_bytes(formats.get(fmt)), 64 * m * n

    @helper
    def one_row(args, n_threads, counter):
        weights, width, k = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
        x, y = load_i64(args + 40), load_i64(args + 48)
        bias, residual = load_i64(args + 64), load_i64(args + 72)
        blocks, block_bytes = (width + ROWS - 1) // ROWS, k // per_unit * unit
        span = max(1, blocks // (3 * n_threads))
        start = atomic_add(counter, span)
        while start < blocks:
            for block in range(start, min(start + span, blocks)):
                acc = vectors(weights + block * block_bytes, x, k)
                _finish(take(acc, 0), y, block * ROWS, bias, residual)
            start = atomic_add(counter, span)

    @helper
    def store_rows(tile, args, row, rows, block, blocks):
        """Store the part of a tile that exists: `rows` rows of x, `blocks` row blocks."""
        y, ldy = load_i64(args + 48), load_i64(args + 56)
        bias, residual, ldr = load_i64(args + 64), load_i64(args + 72), load_i64(args + 80)
        for j in range(rows):
            other = residual + (row + j) * ldr if residual != 0 else 0
            for i in range(blocks):
                total = load_f32x16(tile + 64 * (i * n + j))
                _finish(total, y + (row + j) * ldy, (block + i) * ROWS, bias, other)

    @helper
    def many_rows(args, rows, scratch, n_threads, counter):
        weights, width, k = load_i64(args + 16), load_i64(args + 24), load_i64(args + 32)
        x = load_i64(args + 40)
        tile, stride = stack_bytes(tile_bytes), k // 32 * size
        blocks, block_bytes = (width + ROWS - 1) // ROWS, k // per_unit * unit
        span = block_span(blocks, stride, n_threads)
        start = atomic_add(counter, span)
        while start < blocks:
            stop = min(start + span, blocks)
            for block in range(start, stop):
                unpack(weights + block * block_bytes, scratch + (block - start) * stride, k)
            for row in range(0, rows, n):
                records = x + row * (k // 32) * RECORD
                for block in range(start, stop, m):
                    here = min(m, stop - block)
                    step = stride if here == m else 0
                    tiles(scratch + (block - start) * stride, step, records, k, tile)
                    store_rows(tile, args, row, min(n, rows - row), block, here)
            start = atomic_add(counter, span)

    def matmul_quantized(args, thread, n_threads, counter):
        rows = load_i64(load_i64(args) + 8 * load_i64(args + 8))
        if rows == 1:
            one_row(args, n_threads, counter)
        elif rows > 1:
            scratch = load_i64(args + 88) + thread * load_i64(args + 96)
            many_rows(args, rows, scratch, n_threads, counter)

    return matmul_quantized
