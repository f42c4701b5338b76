"""Scan of a state space with a decay for each element (Gu and Dao, "Mamba", 2023).

Lanes are columns, which need nothing of each other; a thread takes 64 columns of one sequence
through all rows, token after token, so bits depend on the rows of a sequence alone. Decays and
states lie in blocks of 16 columns: rows of all columns, a power of two apart, would push each other
out of the first-level cache. Per token and 16 numbers of the state about 25 vector operations, most
of them the exponential.
"""

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.cpu.states import over_columns, segment_rows, state_part
from jitllm.kernels.cpu.vmath import ZERO, load_part
from jitllm.kernels.simd import fma, load_f32, load_f32x16, load_i64, splat_f32, store_f32x16


@inline
def _token(source, target, size, b, c, rates, step, own):
    """One token of 16 columns; returns state times c."""
    value, total = own * step, splat_f32(ZERO)
    for i in range(size):
        decay = vmath.exp(load_f32x16(rates + 64 * i) * step)
        key, query = splat_f32(load_f32(b + 4 * i)), splat_f32(load_f32(c + 4 * i))
        new = fma(key, value, load_f32x16(source + 64 * i) * decay)
        store_f32x16(target + 64 * i, new)
        total = fma(new, query, total)
    return total


@inline
def _columns(args, segment, start, n):
    """Take n columns from `start` on, at most 16, through the rows of a segment."""
    x, ldx, b, ldb = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                      load_i64(args + 32))  # fmt: skip
    c, ldc, steps, lds = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                          load_i64(args + 64))  # fmt: skip
    y, ldy, size, rates = (load_i64(args + 72), load_i64(args + 80), load_i64(args + 96),
                           load_i64(args + 104))  # fmt: skip
    states, slot_bytes = load_i64(args + 120), load_i64(args + 128)
    at, skip = 4 * start, load_f32x16(load_i64(args + 112) + 4 * start)
    rates += at * size
    source, target = state_part(segment, states, slot_bytes, at * size, 64, size, 16)
    first, end = segment_rows(segment)
    for row in range(first, end):
        own, step = load_part(x + row * ldx + at, n), load_part(steps + row * lds + at, n)
        key, query = b + row * ldb, c + row * ldc
        total = _token(source, target, size, key, query, rates, softplus(step), own)
        store_f32x16(y + row * ldy + at, fma(own, skip, total))
        source = target


@inline
def _piece(args, segment, head, start, columns):
    for i in range(start, start + columns, 16):
        _columns(args, segment, i, min(16, start + columns - i))


selective_scan = over_columns(_piece, columns=88)  # `SELECTIVE_SCAN` of `cpu_ops`
