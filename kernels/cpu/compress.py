"""Compressed keys: a softmax over positions in every column, and rope at an earlier position.

A row that ends `ratio` positions reads them once for the maxima and once for the sums, 16 columns
at a time; other rows cost nothing. Keys stand in columns of the page, so they are read one by one.
"""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.attention_tile import cell_bytes
from jitllm.kernels.cpu.half import load_half_part
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.rope import TURNS, copy
from jitllm.kernels.cpu.rows import next_rows
from jitllm.kernels.cpu.sparse_index import page_of, position_of, segment_of
from jitllm.kernels.cpu.vmath import (
    ZERO,
    as_f32,
    first_f32,
    load_part,
    sin_cos,
    store_part,
)
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_i32,
    load_i64,
    splat_f32,
    stack_bytes,
    store_f32,
    vmax,
)

PAGE = abi.PAGE_TOKENS

# Byte offsets of the argument words of `compress`.
(Y, LDY, WIDTH, N, PAGES, PAGE_BYTES, CACHE, RATIO, OVERLAP, APE) = range(8, 88, 8)


@inline
def _half(at):
    return first_f32(load_half_part(at, 1))


@inline
def _float(at):
    return load_f32(at)


def compress(*, kv):
    """Make the kernel for a cache of type `kv`: f16 or f32. Words as named above."""
    size = cell_bytes(kv)
    one = _half if kv == "f16" else _float
    part_of = load_half_part if kv == "f16" else load_part

    @helper
    def score(args, segment, position, column, n):
        """Return 16 columns of the scores of a position, its ape added."""
        width = load_i64(args + WIDTH)
        page = page_of(segment, load_i64(args + CACHE), load_i64(args + PAGES),
                       load_i64(args + PAGE_BYTES), position // PAGE)  # fmt: skip
        values = page + size * (PAGE * width + position % PAGE * width + column)
        ape = load_i64(args + APE) + 4 * (position % load_i64(args + RATIO) * width + column)
        return part_of(values, n) + load_part(ape, n)

    @helper
    def key(args, segment, position, column, n, buffer):
        """Return 16 columns of x of a position."""
        page = page_of(segment, load_i64(args + CACHE), load_i64(args + PAGES),
                       load_i64(args + PAGE_BYTES), position // PAGE)  # fmt: skip
        for i in range(min(n, 16)):
            store_f32(buffer + 4 * i, one(page + size * (PAGE * (column + i) + position % PAGE)))
        return load_part(buffer, n)

    @helper
    def columns(args, segment, end, i, n):
        """Return columns i to i + 15 of the key that ends at `end` - 1."""
        ratio, buffer, own = load_i64(args + RATIO), stack_bytes(64), 0
        first = end - ratio
        if load_i64(args + OVERLAP) != 0:
            own, first = load_i64(args + N), max(0, end - 2 * ratio)
        top = score(args, segment, end - 1, own + i, n)
        for s in range(first, end):
            column = own + i if s >= end - ratio else i
            top = vmax(top, score(args, segment, s, column, n))
        total = weights = splat_f32(ZERO)
        for s in range(first, end):
            column = own + i if s >= end - ratio else i
            weight = vmath.exp(score(args, segment, s, column, n) - top)
            weights = weights + weight
            total = fma(key(args, segment, s, column, n, buffer), weight, total)
        return total / weights

    def compress_rows(args, thread, n_threads, counter):
        run, n = load_i64(args), load_i64(args + N)
        row = atomic_add(counter, 1)
        while row < load_i64(run + 8 * abi.N_TOKENS):
            segment = segment_of(run, row)
            end = position_of(segment, row) + 1
            y = load_i64(args + Y) + row * load_i64(args + LDY)
            for i in range(0, n, 16):
                value = splat_f32(ZERO)
                if end % load_i64(args + RATIO) == 0:
                    value = columns(args, segment, end, i, n - i)
                store_part(y + 4 * i, value, n - i)
            row = atomic_add(counter, 1)

    return compress_rows


def rope_behind(*, kind):
    """Make the kernel for pairs of a `kind`: norm or neox.

    Words x ldx y ldy n_heads size start n_rot frequencies behind magnitude.
    """
    turn, pair_bytes = TURNS[kind]

    def rows(args, thread, n_threads, counter):
        run, n_heads, size = load_i64(args), load_i64(args + 40), load_i64(args + 48)
        n_rows, positions = load_i64(run + 8 * abi.N_TOKENS), load_i64(run + 8 * abi.POSITIONS)
        start, n_rot = load_i64(args + 56), load_i64(args + 64)
        end_of_head, half = size - start - n_rot, n_rot // 2
        frequencies, magnitude = load_i64(args + 72), splat_f32(load_f32(args + 88))
        row, end = next_rows(counter, n_rows, n_heads * size)
        while row < end:
            for r in range(row, end):
                position = max(0, load_i32(positions + 4 * r) - load_i64(args + 80))
                for h in range(n_heads):
                    x = load_i64(args + 8) + r * load_i64(args + 16) + 4 * size * h
                    y = load_i64(args + 24) + r * load_i64(args + 32) + 4 * size * h
                    copy(x, y, start)
                    x, y = x + 4 * start, y + 4 * start
                    copy(x + 4 * n_rot, y + 4 * n_rot, end_of_head)
                    for i in range(0, half, 16):
                        n, at = min(16, half - i), pair_bytes * i
                        angles = splat_f32(as_f32(position)) * load_part(frequencies + 4 * i, n)
                        sine, cosine = sin_cos(angles)
                        turn(x + at, y + at, half, sine * magnitude, cosine * magnitude, n)
            row, end = next_rows(counter, n_rows, n_heads * size)

    return rows
