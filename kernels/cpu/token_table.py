"""Rows of a small table by the tokens of a run: copies."""

from jitllm.kernels import abi
from jitllm.kernels.cpu.rows import next_rows
from jitllm.kernels.cpu.vmath import load_part, store_part
from jitllm.kernels.simd import load_i32, load_i64


def token_table(args, thread, n_threads, counter):
    """y[t] = table[tokens[t]]; words table n y ldy."""
    run = load_i64(args)
    table, n, y, ldy = (
        load_i64(args + 8), load_i64(args + 16), load_i64(args + 24), load_i64(args + 32),
    )  # fmt: skip
    row, end = next_rows(counter, load_i64(run + 8 * abi.N_TOKENS), n)
    while row < end:
        for r in range(row, end):
            source = table + 4 * n * load_i32(load_i64(run + 8 * abi.TOKENS) + 4 * r)
            for i in range(0, n, 16):
                store_part(y + r * ldy + 4 * i, load_part(source + 4 * i, n - i), n - i)
        row, end = next_rows(counter, load_i64(run + 8 * abi.N_TOKENS), n)
