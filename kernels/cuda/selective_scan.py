"""Scan of a state space with a decay for each element (Gu and Dao, "Mamba", 2023)."""

from jitllm.kernels.cuda._activations import softplus
from jitllm.kernels.cuda._grid import column
from jitllm.kernels.cuda._states import ZERO, rows_of_segment, states_of
from jitllm.kernels.gpu.vocabulary import A, U, exp, fma, load_f32, registers_f32, store_f32, unroll

THREADS = 64


def selective_scan(size):
    """Make the scan of `kernels.reference_ssm.selective_scan`, a thread for each column.

    The state and a are [blocks, size, 16], a block being 16 columns. The grid is (blocks of 64
    columns, rows). A token is an exponential, a product and two fma for each number of the state.
    """

    def kernel(
        run: A, x: A, b: A, c: A, step: A, y: A, a: A, d: A, states: A, ldx: U, ldb: U, ldc: U,
        lds: U, ldy: U, width: U, slot_bytes: U,
    ):  # fmt: skip
        segment, row, end = rows_of_segment(run)
        i = column()
        own, at = 4 * i, 4 * ((i >> 4) * 16 * size + (i & 15))
        if row >= end or i >> 4 > (width - 1) >> 4:
            return
        before, behind = states_of(run, segment, states, slot_bytes)
        if i >= width:  # no column, but in the last block
            for j in unroll(size):
                store_f32(behind + at + 64 * j, ZERO)
            return
        state, rates, skip = registers_f32(size), registers_f32(size), load_f32(d + own)
        for j in unroll(size):
            state[j], rates[j] = ZERO, load_f32(a + at + 64 * j)
            if before != 0:
                state[j] = load_f32(before + at + 64 * j)
        for t in range(row, end):
            value, time = load_f32(x + 4 * t * ldx + own), load_f32(step + 4 * t * lds + own)
            time, total = softplus(time), ZERO
            written = value * time
            for j in unroll(size):
                kept = state[j] * exp(rates[j] * time)
                state[j] = fma(load_f32(b + 4 * (t * ldb + j)), written, kept)
                total = fma(state[j], load_f32(c + 4 * (t * ldc + j)), total)
            store_f32(y + 4 * t * ldy + own, fma(value, skip, total))
        for j in unroll(size):
            store_f32(behind + at + 64 * j, state[j])

    return kernel
