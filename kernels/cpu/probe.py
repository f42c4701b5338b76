"""What this machine can do at most: bytes read and int8 products, without anything else to do.

Both have the signature of an op, but their argument blocks start with these words instead of a run
block: how much, an address to read from, and an address of 64 bytes per sum for the result, which
is written so that the work cannot be left out.
"""

from jitllm.kernels import level as levels
from jitllm.kernels.cpu.tile import dot_memory, store_tile, zero_starts
from jitllm.kernels.simd import load_i32x16, load_i64, splat_i32, store_i32x16

# Row blocks and rows of x that a matrix product keeps in registers at this level.
BLOCKS, ROWS = levels.current().tile
BITS = 7  # codes that every level multiplies without splitting them
BLOCK_BYTES = 512  # 8 chunks of 64 codes
PRODUCTS = 8 * 64 * BLOCKS * ROWS  # of one step of `int8_peak`
PEAK_BYTES = 128 + BLOCKS * BLOCK_BYTES + 8 * 4 * ROWS  # that `int8_peak` reads


def read_bandwidth(args, thread, n_threads, counter):
    """Add up this thread's share of `n` bytes, a multiple of 256 for each thread."""
    n, address, result = load_i64(args) // n_threads, load_i64(args + 8), load_i64(args + 16)
    start = address + thread * n
    a, b, c, d = splat_i32(0), splat_i32(0), splat_i32(0), splat_i32(0)
    for at in range(start, start + n, 256):
        a = a + load_i32x16(at)
        b = b + load_i32x16(at + 64)
        c = c + load_i32x16(at + 128)
        d = d + load_i32x16(at + 192)
    store_i32x16(result + 64 * thread, (a + b) + (c + d))


def int8_peak(args, thread, n_threads, counter):
    """Do `n` steps of `PRODUCTS` multiply-adds from the first-level cache."""
    n, address, result = load_i64(args), load_i64(args + 8), load_i64(args + 16)
    sums = zero_starts(BLOCKS, ROWS)
    for i in range(n):
        at = address + 64 * (i & 1)  # operands that change, or the products are computed once
        x = at + BLOCKS * BLOCK_BYTES
        sums = dot_memory(sums, BLOCKS, at, BLOCK_BYTES, x, 0, 8, BITS)
    store_tile(sums, result + 64 * BLOCKS * ROWS * thread)
