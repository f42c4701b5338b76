"""Scan of a state space with one decay for each head (Dao and Gu, 2024, "Mamba-2").

A head keeps a matrix [N, P]. Lanes are its columns, which need nothing of each other; sums run over
the N rows in ascending order and tokens one after the other, so bits depend on the rows of a
sequence alone. A thread takes 64 columns of one head of one sequence (32 KiB at N = 128, which
stay in the first-level cache) through all rows. Per token and 16 numbers: one load, one
store, one product, two fma.
"""

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.softplus import softplus
from jitllm.kernels.cpu.states import BLOCK, over_columns, segment_rows, state_part
from jitllm.kernels.cpu.vmath import ONE, ZERO, load_part, store_part
from jitllm.kernels.simd import fma, load_f32, load_f32x16, load_i64, splat_f32, store_f32x16


@inline
def _write(source, target, decay, key, value, query, total):
    """Store state * decay + key * value; return total + that * query."""
    new = fma(key, value, load_f32x16(source) * decay)
    store_f32x16(target, new)
    return fma(new, query, total)


@inline
def _token_block(source, target, stride, size, b, c, decay, step, skip, x, y):
    """One token of 64 columns; `source` and `target` are the state before and after it."""
    x0, x1, x2, x3 = (load_f32x16(x), load_f32x16(x + 64), load_f32x16(x + 128),
                      load_f32x16(x + 192))  # fmt: skip
    v0, v1, v2, v3 = x0 * step, x1 * step, x2 * step, x3 * step
    y0 = y1 = y2 = y3 = splat_f32(ZERO)
    for i in range(size):
        key, query = splat_f32(load_f32(b + 4 * i)), splat_f32(load_f32(c + 4 * i))
        s, t = source + i * stride, target + i * stride
        y0 = _write(s, t, decay, key, v0, query, y0)
        y1 = _write(s + 64, t + 64, decay, key, v1, query, y1)
        y2 = _write(s + 128, t + 128, decay, key, v2, query, y2)
        y3 = _write(s + 192, t + 192, decay, key, v3, query, y3)
    store_f32x16(y, fma(x0, skip, y0))
    store_f32x16(y + 64, fma(x1, skip, y1))
    store_f32x16(y + 128, fma(x2, skip, y2))
    store_f32x16(y + 192, fma(x3, skip, y3))


@inline
def _token_part(source, target, stride, size, b, c, decay, step, skip, x, y, n):
    """One token of n columns, at most 16."""
    own = load_part(x, n)
    value, total = own * step, splat_f32(ZERO)
    for i in range(size):
        key, query = splat_f32(load_f32(b + 4 * i)), splat_f32(load_f32(c + 4 * i))
        new = fma(key, value, load_part(source + i * stride, n) * decay)
        store_part(target + i * stride, new, n)
        total = fma(new, query, total)
    store_part(y, fma(own, skip, total), n)


@inline
def _optional(address, head, otherwise):
    """Return element `head` of an array in every lane; `otherwise` if there is no array."""
    value = splat_f32(otherwise)
    if address != 0:
        value = splat_f32(load_f32(address + 4 * head))
    return value


@inline
def _head(args, segment, head, start, columns):
    """Take `columns` columns from `start` on of one head through the rows of a segment."""
    x, ldx, b, ldb = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                      load_i64(args + 32))  # fmt: skip
    c, ldc, steps, lds = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                          load_i64(args + 64))  # fmt: skip
    y, ldy, n_heads, head_dim = (load_i64(args + 72), load_i64(args + 80), load_i64(args + 88),
                                 load_i64(args + 96))  # fmt: skip
    n_groups, size, states = load_i64(args + 104), load_i64(args + 112), load_i64(args + 144)
    slot_bytes = load_i64(args + 152)
    rate = splat_f32(load_f32(load_i64(args + 120) + 4 * head))
    skip = _optional(load_i64(args + 128), head, ZERO)
    shift = _optional(load_i64(args + 136), head, ZERO)
    stride, at = 4 * head_dim, 4 * (head * size * head_dim + start)
    source, target = state_part(segment, states, slot_bytes, at, stride, size, columns)
    column, group = 4 * (head * head_dim + start), 4 * size * (head // (n_heads // n_groups))
    first, end = segment_rows(segment)
    for row in range(first, end):
        step = splat_f32(ONE)
        if steps != 0:
            step = softplus(splat_f32(load_f32(steps + row * lds + 4 * head)) + shift)
        decay, key, query = vmath.exp(step * rate), b + row * ldb + group, c + row * ldc + group
        value, result = x + row * ldx + column, y + row * ldy + column
        if columns == BLOCK:
            _token_block(source, target, stride, size, key, query, decay, step, skip, value,
                         result)  # fmt: skip
        else:
            for j in range(0, columns, 16):
                _token_part(source + 4 * j, target + 4 * j, stride, size, key, query, decay, step,
                            skip, value + 4 * j, result + 4 * j, min(16, columns - j))  # fmt: skip
        source = target


ssm_scan = over_columns(_head, columns=96, heads=88)  # `SSM_SCAN` of `cpu_ops`
