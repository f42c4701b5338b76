"""Gated units of one row, y = act(x G^T) * (x U^T), and y as int8: one dispatch of three.

Half of a workgroup's warps have outputs of G, the other half the same outputs of U. `matvec` says
how they read.
"""

from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._activations import activation
from jitllm.kernels.cuda._finish import row_joiner
from jitllm.kernels.cuda._packed import QUAD, ROWS, reader
from jitllm.kernels.cuda._products import row_product
from jitllm.kernels.cuda._rounding import ZERO, store_rounded
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    group_x,
    inline,
    lane,
    load_shared_f32x4,
    load_u32,
    minimum,
    registers_f32,
    registers_i32,
    shared,
    store_f32x4,
    store_shared_f32,
    sync_threads,
    thread,
    unroll,
    warp,
)

THREADS = 256
WARPS = THREADS // 32
GROUPS = 8  # of 32 columns, that a warp reads at a time


def matvec_gated(split, act, *, fmt):
    """Make the kernel; `split` warps, 1 or 2, share 16 outputs of a matrix.

    Grid: (ceil(n / 16 / (4 / split)), 1). Parameters of the kernel:

    rows        uint32: rows of the run, without which nothing is done
    gate, up    packed matrices (n, k), n a multiple of 32
    x           what `quantize` made of a row of k columns
    y           float32 [n]
    q           what `quantize` makes of y
    """
    group_reader, per_unit = reader(fmt), packed.unit_weights(formats.get(fmt)) // 32
    load, n_words, unit_bytes = group_reader.load, group_reader.words, packed.unit_bytes(fmt)
    add, f = row_product(fmt, group_reader, 1), activation(act)
    join, total_of = row_joiner(1, split, THREADS, QUAD)
    blocks_here = WARPS // 2 // split
    n_outputs = ROWS * blocks_here
    room_bytes = 4 * n_outputs

    @inline
    def sum_up(matrix, x, groups, sums):
        """Add the products of the groups of columns that a warp has."""
        group, quad = (warp() & split - 1) * GROUPS + (lane() >> 2), lane() & 3
        r, ahead, first_row = registers_i32(n_words), registers_i32(n_words), registers_i32(1)
        at = minimum(group, groups - 1)
        load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, ahead)
        while True:
            for i in unroll(n_words):
                r[i] = ahead[i]
            place, is_there = at, group < groups
            group += split * GROUPS
            at = minimum(group, groups - 1)
            load(matrix + at // per_unit * unit_bytes, at & per_unit - 1, quad, ahead)
            add(sums, r, x, x + 32 * groups, place, first_row, is_there)
            if group >= groups:
                break

    @inline
    def write(first, n, y, q, room):
        """Store the units that are in shared memory, four of a thread."""
        i, v = 4 * thread(), (ZERO, ZERO, ZERO, ZERO)
        at = first + i if i < n_outputs else n
        if at < n:
            v = load_shared_f32x4(room + 4 * i)
            store_f32x4(y + 4 * at, v)
        store_rounded(v[0], v[1], v[2], v[3], q, 0, 1, at, n)

    def kernel(rows: A, gate: A, up: A, x: A, y: A, q: A, n: U, k: U):
        if load_u32(rows) == 0:
            return
        groups, blocks, first = k >> 5, n + ROWS - 1 >> 4, group_x() * blocks_here
        own, sums = warp() // split, registers_f32(QUAD)
        is_up = own >= blocks_here
        block = minimum(first + (own - blocks_here if is_up else own), blocks - 1)
        matrix = (up if is_up else gate) + block * (groups // per_unit * unit_bytes)
        sum_up(matrix, x, groups, sums)
        totals, room, i = join(sums), shared(room_bytes), thread()
        if i < n_outputs:
            unit = f(total_of(totals, i)) * total_of(totals, n_outputs + i)
            store_shared_f32(room + 4 * i, unit)
        sync_threads()
        if warp() == 0:
            write(ROWS * first, n, y, q, room)

    return kernel
