"""Products of few rows with packed weights, y = x W^T, with float32 activations.

For weights of F16, BF16 and F32, and for every format where results are to be exact. Weights are
read once, 16 bytes a thread, four loads (quantized: as many as a group has planes) on their way.
Of 16-bit weights a load is eight numbers, for which a thread takes 8 conversions and, for each row
of x, 8 fma and a load: 30 instructions where memory leaves time for 100 (see `matvec`). Of 4-bit
codes it is 32, a conversion and an fma each, about 150: two thirds of what memory gives.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._finish import finisher, row_clamp, row_finisher
from jitllm.kernels.cuda._float_products import rows_each, walker
from jitllm.kernels.cuda._packed import ROWS
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    load_u32,
    minimum,
    registers_f32,
    registers_i32,
    to_i32,
    unroll,
    warp,
)

THREADS = 256
WARPS = THREADS // 32


def matvec_float(tile, split, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tile` rows of x at a time, 1 to 4.

    Constants, grid and parameters are those of `matvec`, but x is float32, its rows `ldx` floats
    apart. A warp reads 256 columns at a time; of F16 and BF16 64, of F32 32.
    """
    own = rows_each(fmt)
    walk, ends = walker(fmt, tile, split), finisher(biased, scaled, weighed, added)
    begin, write, n_terms = row_finisher(tile, split, THREADS, own, *ends)
    per, unit_bytes = packed.unit_weights(formats.get(fmt)), packed.unit_bytes(fmt)
    blocks_here, n_sums, clamp = WARPS // split, tile * own, row_clamp(tile)

    def kernel(
        rows: A, w: A, x: A, y: A, bias: A, scales: A, weights: A, ids: A, residual: A,
        n: U, k: U, ldx: U, ldy: U, ldr: U, fan: U, heads: U,
    ):  # fmt: skip
        first, count = group_y() * tile, load_u32(rows)
        blocks, expert = n + ROWS - 1 >> 4, 0
        if routed and first < count:
            expert = load_u32(ids + 4 * first)
        block = group_of_row() * blocks_here + warp() // split
        block = minimum(block, heads * blocks - 1)
        head = divide_u32(block, blocks)
        own_rows = registers_i32(tile)
        for t in unroll(tile):
            own_rows[t] = to_i32(divide_u32(clamp(first + t, count), fan))
        sums = registers_f32(n_sums)
        matrix = w + (expert * blocks + block) * (k // per * unit_bytes)
        terms, first_block = registers_f32(n_terms), group_of_row() * blocks_here
        begin(
            terms, first_block, n, heads, first, count, expert, bias, scales, weights, residual, ldr
        )
        walk(sums, matrix, k, x + 4 * head * k, ldx, own_rows)
        write(sums, terms, first_block, n, heads, first, count, y, ldy)

    if formats.get(fmt).planes:
        kernel.groups = 1  # with registers for more, a few are too little for some type
    return kernel
