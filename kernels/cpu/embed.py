"""Rows of a packed matrix as float32: the embedding of tokens.

Packed rows stand 16 by 16; SPAN columns of the 16 are unpacked and one lane is taken. That reads 16
times what is needed, which for the few rows of a prompt costs less than one matrix product.
"""

from jitllm.kernels import abi, formats, packed
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper
from jitllm.kernels.cpu.weights import value_writer
from jitllm.kernels.simd import (
    load_f32,
    load_i32,
    load_i64,
    stack_bytes,
    store_f32,
)

ROWS = packed.ROWS
SPAN = 256
VALUES_BYTES = 64 * SPAN


def embed(*, fmt: str, by: str = "tokens"):
    """Return the kernel of `abi.EMBED` for weights of any format; `by` "positions" reads those."""
    numbers = {"tokens": abi.TOKENS, "positions": abi.POSITIONS}[by]
    write = value_writer(fmt)
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))

    @helper
    def embed_row(weights, lane, k, y, values):
        for start in range(0, k, SPAN):
            columns = min(SPAN, k - start)
            write(weights, values, start, columns)
            for i in range(columns):
                store_f32(y + 4 * (start + i), load_f32(values + 64 * i + 4 * lane))

    def embed_rows(args, thread, n_threads, counter):
        run, weights, k = load_i64(args), load_i64(args + 8), load_i64(args + 16)
        y, ldy = load_i64(args + 24), load_i64(args + 32)
        n, tokens = load_i64(run + 8 * abi.N_TOKENS), load_i64(run + 8 * numbers)
        values, block_bytes = stack_bytes(VALUES_BYTES), k // per_unit * unit
        row = atomic_add(counter, 1)
        while row < n:
            token = load_i32(tokens + 4 * row)
            block = weights + token // ROWS * block_bytes
            embed_row(block, token % ROWS, k, y + row * ldy, values)
            row = atomic_add(counter, 1)

    return embed_rows
