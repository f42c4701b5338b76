"""Products of few rows with packed weights, y = x W^T, by integer dot products.

Data first. Each weight is read once: what a kernel for one row must do is keep enough bytes on
their way. 16 rows of W times 256 columns of a 4-bit type are 2 KB of codes and about 300 bytes of
scales, which a warp asks for at once: of eight groups of 32 columns, four threads take one, and
each thread four rows of it, 64 bytes in loads of 16. It asks for its next group while it scales the
sums of this one. The 24 to 32 warps of a multiprocessor thus have 50 to 70 KB on their way; an H200
needs 25 (4.8 TB/s for 700 ns, by 132). For 16 bytes of 4-bit codes and one row a thread takes 45
instructions; at 20 bytes a clock for 128 threads' worth of them there is time for 100. A row more
takes 15.

Sums: a thread adds its groups in ascending order, as `kernels.cpu.matmul` does, scale times an
exact integer sum; then the eight threads of a row, then the warps, in a fixed order.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._finish import finisher, row_clamp, row_finisher
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.cuda._products import row_product
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    lane,
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
GROUPS = 8  # of 32 columns, that a warp reads at a time


def matvec(tile, split, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tile` rows of x at a time, 1 to 8.

    `split` warps (1, 2, 4, 8) share 16 outputs, and have K's groups of 32 columns in turn: a warp
    should have at least eight. Grid: (ceil(heads * ceil(n / 16) / (8 / split)), ceil(rows / tile)).

    Parameters of the kernel, addresses of float32 unless said:

    rows        uint32: rows of y
    w           packed matrices (n, k), one after the other: of experts, or of heads
    x           what `quantize` made of rows / fan rows of heads * k columns
    y           [rows][ldy]
    bias        [n], of each expert or head, if `biased`
    scales      a number for each expert, by which products are multiplied, if `scaled`
    weights     a number for each row, by which they are too, if `weighed`
    ids         uint32: the expert of each row, if `routed`; then `tile` is 1
    residual    [rows][ldr], is added if `added`; may be y
    ldx         not read
    fan         rows of y for a row of x
    heads       matrices, each with k columns of x and n of y, beside each other
    """
    group_reader, per_unit = reader(fmt), packed.unit_weights(formats.get(fmt)) // 32
    load, n_words, unit_bytes = group_reader.load, group_reader.words, packed.unit_bytes(fmt)
    add, ends = row_product(fmt, group_reader, tile), finisher(biased, scaled, weighed, added)
    begin, write, n_terms = row_finisher(tile, split, THREADS, QUAD, *ends)
    blocks_here, n_sums, is_ahead = WARPS // split, tile * QUAD, tile < 8
    clamp = row_clamp(tile)

    def kernel(
        rows: A, w: A, x: A, y: A, bias: A, scales: A, weights: A, ids: A, residual: A,
        n: U, k: U, ldx: U, ldy: U, ldr: U, fan: U, heads: U,
    ):  # fmt: skip
        groups, blocks = k >> 5, n + ROWS - 1 >> 4
        first, count = group_y() * tile, load_u32(rows)
        expert = load_u32(ids + 4 * first) if routed else 0
        first_block = group_of_row() * blocks_here
        block = minimum(first_block + warp() // split, heads * blocks - 1)
        matrix = w + (expert * blocks + block) * (groups // per_unit * unit_bytes)
        group, quad = (warp() & split - 1) * GROUPS + (lane() >> 2), lane() & 3
        r, ahead = registers_i32(n_words), registers_i32(n_words)
        at = minimum(group, groups - 1)
        load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, ahead)

        terms, own_rows = registers_f32(n_terms), registers_i32(tile)
        begin(
            terms, first_block, n, heads, first, count, expert, bias, scales, weights, residual, ldr
        )
        for t in unroll(tile):
            own_rows[t] = to_i32(divide_u32(clamp(first + t, count), fan))
        x_rows, sums = divide_u32(count, fan), registers_f32(n_sums)
        heads_at, head_groups = x + heads * groups * 32 * x_rows, divide_u32(block, blocks) * groups
        while True:  # once at least, so that no branch stands between the first loads
            for i in unroll(n_words):
                r[i] = ahead[i]
            place, is_there = (head_groups + at) * x_rows, group < groups
            group += split * GROUPS
            at = minimum(group, groups - 1)
            if is_ahead:
                load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, ahead)
            add(sums, r, x, heads_at, place, own_rows, is_there)
            if not is_ahead:
                load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, ahead)
            if group >= groups:
                break

        write(sums, terms, first_block, n, heads, first, count, y, ldy)

    if tile == 2:
        kernel.groups = 2  # else the compiler has registers for more, and a few too little
    return kernel
