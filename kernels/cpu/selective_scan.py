"""Scan of a state space with a decay for each element (Gu and Dao, "Mamba", 2023).

Lanes are columns, which need nothing of each other; a thread takes BLOCK columns of one sequence
through all rows, token after token, so bits depend on the rows of a sequence alone. Per token and
16 numbers of the state about 25 vector operations, most of them the exponential.
"""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.cpu.vmath import ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_f32x16, load_i64, splat_f32, store_f32x16

BLOCK = 64  # columns of a unit of work


@inline
def _token(source, target, stride, size, b, c, rates, ldr, step, own, n):
    """One token of n columns, at most 16; returns state times c."""
    value, total = own * step, splat_f32(ZERO)
    for i in range(size):
        decay = vmath.exp(load_f32x16(rates + i * ldr) * step)
        key, query = splat_f32(load_f32(b + 4 * i)), splat_f32(load_f32(c + 4 * i))
        new = fma(key, value, load_part(source + i * stride, n) * decay)
        store_part(target + i * stride, new, n)
        total = fma(new, query, total)
    return total


@inline
def _columns(args, segment, start, n):
    """Take n columns from `start` on, at most 16, through the rows of a segment."""
    x, ldx, b, ldb = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                      load_i64(args + 32))  # fmt: skip
    c, ldc, steps, lds = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                          load_i64(args + 64))  # fmt: skip
    y, ldy, width, size = (load_i64(args + 72), load_i64(args + 80), load_i64(args + 88),
                           load_i64(args + 96))  # fmt: skip
    rates, ldr, d = load_i64(args + 104), load_i64(args + 112), load_i64(args + 120)
    states, slot_bytes = load_i64(args + 128), load_i64(args + 136)
    at, stride, skip = 4 * start, 4 * width, load_f32x16(d + 4 * start)
    slot = load_i64(segment + 8 * abi.SEGMENT_STATE_IN)
    target = states + slot_bytes * load_i64(segment + 8 * abi.SEGMENT_STATE_OUT) + at
    source = states + slot_bytes * slot + at
    if slot < 0:
        for i in range(size):
            store_part(target + i * stride, splat_f32(ZERO), n)
        source = target
    first = load_i64(segment + 8 * abi.SEGMENT_ROW)
    for row in range(first, first + load_i64(segment + 8 * abi.SEGMENT_ROWS)):
        own, step = load_f32x16(x + row * ldx + at), softplus(load_f32x16(steps + row * lds + at))
        total = _token(source, target, stride, size, b + row * ldb, c + row * ldc, rates + at, ldr,
                       step, own, n)  # fmt: skip
        store_f32x16(y + row * ldy + at, fma(own, skip, total))
        source = target


def selective_scan(args, thread, n_threads, counter):
    """Run the rows of every segment through the columns' states (`SELECTIVE_SCAN` of `cpu_ops`)."""
    run = load_i64(args)
    n_segments, segments = load_i64(run + 8 * abi.N_SEGMENTS), load_i64(run + 8 * abi.SEGMENTS)
    width = load_i64(args + 88)
    n_blocks = (width + BLOCK - 1) // BLOCK
    unit = atomic_add(counter, 1)
    while unit < n_segments * n_blocks:
        segment, start = segments + 8 * abi.SEGMENT_WORDS * (unit // n_blocks), unit % n_blocks
        for i in range(BLOCK * start, min(width, BLOCK * start + BLOCK), 16):
            _columns(args, segment, i, min(16, width - i))
        unit = atomic_add(counter, 1)
