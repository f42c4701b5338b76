"""Embeddings of the last tokens of each row, found by a hash of them.

A row of the table is unpacked as in `embed`; the hash is a few integer operations beside that.
"""

import numpy as np

from jitllm.kernels import abi, formats, packed
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.inline import helper, inline
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


@inline
def _segment_of(run, row):
    """Return the address of the segment that a row belongs to."""
    segment = load_i64(run + 8 * abi.SEGMENTS)
    while row >= (load_i64(segment + 8 * abi.SEGMENT_ROW)
                  + load_i64(segment + 8 * abi.SEGMENT_ROWS)):  # fmt: skip
        segment += 8 * abi.SEGMENT_WORDS
    return segment


@inline
def _token(run, segment, row, back, states, slot_bytes):
    """Return the token `back` rows before a row, -1 before the sequence's first."""
    first = load_i64(segment + 8 * abi.SEGMENT_ROW)
    slot = load_i64(segment + 8 * abi.SEGMENT_STATE_IN)
    token = -1
    if row - back >= first:
        token = int(load_i32(load_i64(run + 8 * abi.TOKENS) + 4 * (row - back)))
    elif slot >= 0:
        token = int(load_f32(states + slot * slot_bytes + 4 * (back - (row - first) - 1))) - 1
    return token


@inline
def _remember(run, segment, row, n, states, slot_bytes):
    """Write the last n tokens of a segment whose last row this is."""
    slot = load_i64(segment + 8 * abi.SEGMENT_STATE_OUT)
    for j in range(n):
        token = _token(run, segment, row, j, states, slot_bytes)
        store_f32(states + slot * slot_bytes + 4 * j, np.float32(token + 1))


def ngram_embed(*, fmt):
    """Make the kernel of `NGRAM_EMBED` of `cpu_ops` for weights of any format."""
    write = value_writer(fmt)
    unit, per_unit = packed.unit_bytes(fmt), packed.unit_weights(formats.get(fmt))

    @helper
    def table_row(weights, lane, k, y, values):
        for start in range(0, k, SPAN):
            columns = min(SPAN, k - start)
            write(weights, values, start, columns)
            for i in range(columns):
                store_f32(y + 4 * (start + i), load_f32(values + 64 * i + 4 * lane))

    def kernel(args, thread, n_threads, counter):
        run, weights, k = load_i64(args), load_i64(args + 8), load_i64(args + 16)
        y, ldy, hashes = load_i64(args + 24), load_i64(args + 32), load_i64(args + 40)
        longest, n_hashes, end = load_i64(args + 48), load_i64(args + 56), load_i64(args + 64)
        states, slot_bytes = load_i64(args + 72), load_i64(args + 80)
        values, block_bytes = stack_bytes(VALUES_BYTES), k // per_unit * unit
        sizes = hashes + 8 * longest
        each = n_hashes // (longest - 1)
        n = load_i64(run + 8 * abi.N_TOKENS)
        row = atomic_add(counter, 1)
        while row < n:
            segment = _segment_of(run, row)
            last = (load_i64(segment + 8 * abi.SEGMENT_ROW)
                    + load_i64(segment + 8 * abi.SEGMENT_ROWS) - 1)  # fmt: skip
            if row == last:
                _remember(run, segment, row, longest - 1, states, slot_bytes)
            mixed = load_i64(hashes) * _token(run, segment, row, 0, states, slot_bytes)
            is_cut = False
            for j in range(1, longest):
                token = end
                if not is_cut:
                    token = _token(run, segment, row, j, states, slot_bytes)
                    if token < 0 or token == end:
                        is_cut, token = True, end
                mixed = mixed ^ (load_i64(hashes + 8 * j) * token)
                for h in range((j - 1) * each, j * each):
                    size = np.uint64(load_i64(sizes + 8 * h))
                    index = np.int64(np.uint64(mixed) % size)
                    index += load_i64(sizes + 8 * (n_hashes + h))
                    block = weights + index // ROWS * block_bytes
                    table_row(block, index % ROWS, k, y + row * ldy + 4 * h * k, values)
            row = atomic_add(counter, 1)

    return kernel
