"""Hyper-connections: gates of residual streams, sums of streams, and what goes back to them.

A row reads and writes S * n floats with one or S fma each: memory speed. Gates are a few dozen
numbers a row. Sums over streams ascend.
"""

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.cpu.vmath import ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_i64, splat_f32, store_f32

GATE_FLOATS = 1024  # what a row of gates counts for when rows are shared out

# Byte offsets of the argument words of `gates`.
(X, LDX, Y, LDY, WIDTH, N_STREAMS, SCALE, BASE, EPS, MAGNITUDE, POST_EPS, ITERATIONS) = range(
    16, 112, 8)  # fmt: skip


@inline
def _divide(at, first, step, n, eps):
    """Divide n numbers, `step` floats apart, by their sum + eps."""
    total = ZERO
    for i in range(n):
        total = total + load_f32(at + 4 * (first + step * i))
    total = total + eps
    for i in range(n):
        place = at + 4 * (first + step * i)
        store_f32(place, load_f32(place) / total)


@helper
def _mix(y, s, eps, iterations):
    """Sinkhorn's iteration on s * s numbers at y, [src][dst]."""
    for src in range(s):
        row = y + 4 * s * src
        top = load_f32(row)
        for dst in range(1, s):
            top = max(top, load_f32(row + 4 * dst))
        part = load_part(row, s) - splat_f32(top)
        store_part(row, vmath.exp(part), s)
        _divide(row, 0, 1, s, ZERO)
        for dst in range(s):
            store_f32(row + 4 * dst, load_f32(row + 4 * dst) + eps)
    for turn in range(iterations):
        if turn > 0:
            for src in range(s):
                _divide(y, s * src, 1, s, eps)
        for dst in range(s):
            _divide(y, dst, s, s, eps)


def gates(args, thread, n_threads, counter):
    """Gates of rows, see `llm/graph/words/streams.py`; streams are at most 8."""
    n_rows, width, s = row_count(args), load_i64(args + WIDTH), load_i64(args + N_STREAMS)
    scale, base, eps = load_i64(args + SCALE), load_i64(args + BASE), load_f32(args + EPS)
    magnitude, post_eps = load_f32(args + MAGNITUDE), load_f32(args + POST_EPS)
    row, end = next_rows(counter, n_rows, GATE_FLOATS)
    while row < end:
        for r in range(row, end):
            x = load_i64(args + X) + r * load_i64(args + LDX)
            y = load_i64(args + Y) + r * load_i64(args + LDY)
            for i in range(0, width, 16):
                n = width - i
                z = fma(load_part(x + 4 * i, n), load_part(scale + 4 * i, n),
                        load_part(base + 4 * i, n))  # fmt: skip
                store_part(y + 4 * i, z, n)
            read = vmath.sigmoid(load_part(y, s)) + splat_f32(eps)
            store_part(y, read, s)
            if width > s:
                write = vmath.sigmoid(load_part(y + 4 * s, s))
                write = fma(write, splat_f32(magnitude), splat_f32(post_eps))
                store_part(y + 4 * s, write, s)
            if width > 2 * s:
                _mix(y + 8 * s, s, eps, load_i64(args + ITERATIONS))
        row, end = next_rows(counter, n_rows, GATE_FLOATS)


def read(args, thread, n_threads, counter):
    """y = sum over s of gates[s] * stream s; words rows x ldx gates ldg y ldy width n_streams."""
    n_rows, width, s = row_count(args), load_i64(args + 64), load_i64(args + 72)
    row, end = next_rows(counter, n_rows, width * s)
    while row < end:
        for r in range(row, end):
            x = load_i64(args + 16) + r * load_i64(args + 24)
            weights = load_i64(args + 32) + r * load_i64(args + 40)
            y = load_i64(args + 48) + r * load_i64(args + 56)
            for i in range(0, width, 16):
                total = splat_f32(ZERO)
                for j in range(s):
                    part = load_part(x + 4 * (j * width + i), width - i)
                    total = fma(part, splat_f32(load_f32(weights + 4 * j)), total)
                store_part(y + 4 * i, total, width - i)
        row, end = next_rows(counter, n_rows, width * s)


@inline
def _mixed(streams, mix, width, i, s, dst):
    """Return columns i of the mix of streams that goes to stream dst."""
    total = splat_f32(ZERO)
    for src in range(s):
        part = load_part(streams + 4 * (src * width + i), width - i)
        total = fma(part, splat_f32(load_f32(mix + 4 * (src * s + dst))), total)
    return total


def write(args, thread, n_threads, counter):
    """stream dst of y = gates[S + dst] * x + stream dst, or + a mix of streams.

    Words rows x ldx streams lds gates ldg y ldy width n_streams mixes.
    """
    n_rows, width, s = row_count(args), load_i64(args + 80), load_i64(args + 88)
    row, end = next_rows(counter, n_rows, width * s)
    while row < end:
        for r in range(row, end):
            x = load_i64(args + 16) + r * load_i64(args + 24)
            streams = load_i64(args + 32) + r * load_i64(args + 40)
            weights = load_i64(args + 48) + r * load_i64(args + 56)
            y = load_i64(args + 64) + r * load_i64(args + 72)
            for dst in range(s):
                weight = splat_f32(load_f32(weights + 4 * (s + dst)))
                for i in range(0, width, 16):
                    if load_i64(args + 96) != 0:
                        kept = _mixed(streams, weights + 8 * s, width, i, s, dst)
                    else:
                        kept = load_part(streams + 4 * (dst * width + i), width - i)
                    part = load_part(x + 4 * i, width - i)
                    at = y + 4 * (dst * width + i)
                    store_part(at, fma(part, weight, kept), width - i)
        row, end = next_rows(counter, n_rows, width * s)
