"""The gated delta rule (Yang et al., "Gated Delta Networks", 2024), one token after the other.

A head keeps a matrix S [dk, dv], rows by key column. Lanes are columns of S: no lane needs another,
and sums run over the rows in ascending order, so bits depend on the rows of a sequence alone, not
on how they are cut into runs. A thread takes 64 columns of one head of one sequence (32 KiB at dk =
128, which stay in the first-level cache) through all rows. Per token and 16 numbers of S: two loads
and a store, two products and three fma.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.states import BLOCK, over_columns, segment_rows, state_part
from jitllm.kernels.cpu.vmath import ZERO
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    store_f32x16,
)


@inline
def _recall(state, stride, decay, step, key, dk):
    """Return sum over i of decay[i] * S[i] * key[i] for 16 columns."""
    total = splat_f32(ZERO)
    for i in range(dk):
        old = load_f32x16(state + i * stride) * splat_f32(load_f32(decay + step * i))
        total = fma(old, splat_f32(load_f32(key + 4 * i)), total)
    return total


@inline
def _recall_block(state, stride, decay, step, key, dk):
    """Return the sums of `_recall` for 64 columns."""
    a = b = c = d = splat_f32(ZERO)
    for i in range(dk):
        at, factor = state + i * stride, splat_f32(load_f32(decay + step * i))
        k = splat_f32(load_f32(key + 4 * i))
        a = fma(load_f32x16(at) * factor, k, a)
        b = fma(load_f32x16(at + 64) * factor, k, b)
        c = fma(load_f32x16(at + 128) * factor, k, c)
        d = fma(load_f32x16(at + 192) * factor, k, d)
    return a, b, c, d


@inline
def _write(source, target, factor, k, change, query, total):
    """Store S[i] = decay[i] * S[i] + key[i] * change; return total + S[i] * query[i]."""
    new = fma(k, change, load_f32x16(source) * factor)
    store_f32x16(target, new)
    return fma(new, query, total)


@inline
def _step(source, target, stride, decay, step, key, query, dk, v, beta, scale, out):
    """One token of 16 columns; `source` and `target` are S before and after it."""
    change = (load_f32x16(v) - _recall(source, stride, decay, step, key, dk)) * beta
    total = splat_f32(ZERO)
    for i in range(dk):
        factor, k = splat_f32(load_f32(decay + step * i)), splat_f32(load_f32(key + 4 * i))
        q, at = splat_f32(load_f32(query + 4 * i)), i * stride
        total = _write(source + at, target + at, factor, k, change, q, total)
    store_f32x16(out, total * scale)


@inline
def _step_block(source, target, stride, decay, step, key, query, dk, v, beta, scale, out):
    """One token of 64 columns."""
    e, f, g, h = _recall_block(source, stride, decay, step, key, dk)
    e = (load_f32x16(v) - e) * beta
    f = (load_f32x16(v + 64) - f) * beta
    g = (load_f32x16(v + 128) - g) * beta
    h = (load_f32x16(v + 192) - h) * beta
    a = b = c = d = splat_f32(ZERO)
    for i in range(dk):
        factor, k = splat_f32(load_f32(decay + step * i)), splat_f32(load_f32(key + 4 * i))
        q, x, y = splat_f32(load_f32(query + 4 * i)), source + i * stride, target + i * stride
        a = _write(x, y, factor, k, e, q, a)
        b = _write(x + 64, y + 64, factor, k, f, q, b)
        c = _write(x + 128, y + 128, factor, k, g, q, c)
        d = _write(x + 192, y + 192, factor, k, h, q, d)
    store_f32x16(out, a * scale)
    store_f32x16(out + 64, b * scale)
    store_f32x16(out + 128, c * scale)
    store_f32x16(out + 192, d * scale)


@inline
def _head(args, segment, head, start, columns):
    """Take `columns` columns from `start` on of one head through the rows of a segment."""
    q, ldq, k, ldk = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                      load_i64(args + 32))  # fmt: skip
    v, ldv, decay, ldd = (load_i64(args + 40), load_i64(args + 48), load_i64(args + 56),
                          load_i64(args + 64))  # fmt: skip
    beta, ldb, out, ldo = (load_i64(args + 72), load_i64(args + 80), load_i64(args + 88),
                           load_i64(args + 96))  # fmt: skip
    n_key_heads, dk, dv = load_i64(args + 112), load_i64(args + 120), load_i64(args + 128)
    step, states, slot_bytes = load_i64(args + 144), load_i64(args + 152), load_i64(args + 160)
    scale = splat_f32(load_f32(args + 168))
    key_head = head % n_key_heads
    if load_i64(args + 136) == 0:
        key_head = head // (load_i64(args + 104) // n_key_heads)
    if step != 0:
        decay += 4 * head * dk
    else:
        decay += 4 * head
    stride, at = 4 * dv, 4 * (head * dk * dv + start)
    source, target = state_part(segment, states, slot_bytes, at, stride, dk, columns)
    first, end = segment_rows(segment)
    column = 4 * (head * dv + start)
    for row in range(first, end):
        key, query = k + row * ldk + 4 * key_head * dk, q + row * ldq + 4 * key_head * dk
        factors, write = decay + row * ldd, splat_f32(load_f32(beta + row * ldb + 4 * head))
        value, result = v + row * ldv + column, out + row * ldo + column
        if columns == BLOCK:
            _step_block(source, target, stride, factors, step, key, query, dk, value, write,
                        scale, result)  # fmt: skip
        else:
            for j in range(0, 4 * columns, 64):
                _step(source + j, target + j, stride, factors, step, key, query, dk, value + j,
                      write, scale, result + j)  # fmt: skip
        source = target


delta_net = over_columns(_head, columns=128, heads=104)  # `DELTA_NET` of `cpu_ops`
