"""Rows of a packed table, chosen by hashes of the last tokens."""

import numpy as np

from jitllm.kernels.cuda import _table
from jitllm.kernels.cuda._run import n_rows, segment_of
from jitllm.kernels.cuda._segments import ROW, ROWS, STATE_IN, STATE_OUT, segment_word
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    load_f32,
    load_i32,
    load_i64,
    store_f32,
    thread,
    to_f32,
    to_i32,
)

THREADS = _table.THREADS


@inline
def _token(tokens, at, first, before):
    """Return the token at a row, -1 before a sequence's first.

    Those before the segment's `first` row are in the state at `before`, 0 for none.
    """
    token = -1
    if at >= first:
        token = load_i32(tokens + 4 * at) + 0
    elif before != 0:
        token = to_i32(load_f32(before + 4 * (first - at - 1))) - 1
    return token


def _hash(longest, n_hashes):
    """Make number(h, row, first, tokens, before, hashes, end): the row of the table for hash h."""
    each = n_hashes // (longest - 1)

    @inline
    def number(h, row, first, tokens, before, hashes, end):
        mixed, is_cut = load_i64(hashes) * _token(tokens, row, first, before), False
        for j in range(1, divide_u32(h, each) + 2):
            token = end
            if not is_cut:
                token = _token(tokens, row - j, first, before)
                if token < 0 or token == end:
                    is_cut, token = True, end
            mixed = mixed ^ (load_i64(hashes + 8 * j) * token)
        rules = hashes + 8 * (longest + h)
        return np.int64(np.uint64(mixed) % np.uint64(load_i64(rules))) + load_i64(
            rules + 8 * n_hashes
        )

    return number


def ngram_embed(longest, n_hashes, *, fmt):
    """Make y[t, h] = table[hash h of the last tokens of row t]; see `reference_ngram`.

    `hashes` are int64 [longest + 2 * n_hashes]: multipliers, sizes and offsets. The workgroup of a
    segment's last row writes the state behind it: 1 + token of the last ones, float32. The table is
    packed: `row_bytes`, of a row in the file, are not read.
    """
    copy, number = _table.row_copier(fmt), _hash(longest, n_hashes)

    def kernel(
        run: A, tokens: A, w: A, hashes: A, states: A, y: A,
        ldy: U, width: U, row_bytes: U, parts: U, end: U, slot_bytes: U,
    ):  # fmt: skip
        row, group = group_y(), group_of_row()
        if row >= n_rows(run):
            return
        segment = segment_of(run, row)
        first, slot = segment_word(run, segment, ROW), segment_word(run, segment, STATE_IN)
        before = states + slot * slot_bytes if slot >= 0 else 0
        last = first + segment_word(run, segment, ROWS) - 1
        if row == last and group == 0 and thread() < longest - 1:
            behind = states + segment_word(run, segment, STATE_OUT) * slot_bytes
            token = _token(tokens, row - thread(), first, before)
            store_f32(behind + 4 * thread(), to_f32(token + 1))
        h = divide_u32(group, parts)
        index = number(h, row, first, tokens, before, hashes, end)
        at = y + 4 * (row * ldy + h * width)
        copy(w, index, width, at, (group - h * parts) * _table.SPAN)

    return kernel
