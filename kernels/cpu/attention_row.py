"""One row of attention: which keys it sees, and its online softmax.

A row's state is its output (dv floats, padded to n), its maximum and its sum. `args` is the
argument block of `abi.ATTENTION`, `segment` the address of a segment's words.
"""

import numpy as np

from jitllm.kernels import abi
from jitllm.kernels.cpu import attention_layout as layout
from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.vmath import ONE, ZERO, first_f32, lanes, store_part
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i32,
    load_i64,
    reduce_max,
    splat_f32,
    splat_i32,
    store_f32,
    store_f32x16,
    to_f32,
    vmax,
    where_ge,
    where_lt,
)

PAGE, SPAN_TOKENS = abi.PAGE_TOKENS, layout.SPAN_TOKENS
LOWEST = np.float32(-1e30)  # below every score; finite, so that differences are never NaN

# Byte offsets of the argument words.
(Q, LDQ, OUT, LDO, N_HEADS, N_KV_HEADS, DK, DV, PAGES, PAGE_BYTES, CACHE, TABLE_PAGES, WINDOW,
 MASK, SCALE, SOFT_CAP, SINKS, SLOPES, SEGMENTS, SCRATCH, SCRATCH_BYTES) = range(
    8, 176, 8)  # fmt: skip


@inline
def first_key(args, position):
    """Return the first cell that a query at `position` sees."""
    window, mask = load_i64(args + WINDOW), load_i64(args + MASK)
    if window <= 0:
        return 0
    if mask == abi.MASK_CAUSAL:
        return max(0, position - window + 1)
    if mask == abi.MASK_CHUNK:
        return position - position % window
    return max(0, position - window // 2)


@inline
def end_key(args, segment, position):
    """Return the cell behind the last one that a query at `position` sees."""
    if load_i64(args + MASK) != abi.MASK_NONE:
        return position + 1
    end = load_i64(segment + 8 * abi.SEGMENT_POSITION) + load_i64(segment + 8 * abi.SEGMENT_ROWS)
    window = load_i64(args + WINDOW)
    return min(end, position + window // 2 + 1) if window > 0 else end


@inline
def position_of(segment, group, row):
    """Return the position of row `row` (token, head of the group) of a segment."""
    return load_i64(segment + 8 * abi.SEGMENT_POSITION) + row // group


@inline
def page_at(pages, page_bytes, tables, cache, table_pages, block):
    """Return the address of the page that holds positions 64 block to 64 block + 63."""
    table = load_i64(tables + 8 * cache)
    if table_pages > 0:
        block = block % table_pages
    return pages + load_i32(table + 4 * block) * page_bytes


@inline
def spans_of(args, segment):
    """Return the first and the end span of the keys that any row of a segment sees."""
    first = load_i64(segment + 8 * abi.SEGMENT_POSITION)
    last = first + load_i64(segment + 8 * abi.SEGMENT_ROWS) - 1
    end = end_key(args, segment, last)
    return first_key(args, first) // SPAN_TOKENS, (end + SPAN_TOKENS - 1) // SPAN_TOKENS


# --- a row's softmax ---------------------------------------------------------------------------


@inline
def reset(state, n):
    """Start a state: output and sum 0, maximum LOWEST; n = dv padded."""
    for i in range(0, n, 16):
        store_f32x16(state + 4 * i, splat_f32(ZERO))
    store_f32(state + 4 * n, LOWEST)
    store_f32(state + 4 * n + 4, ZERO)


@inline
def _visible(x, other, at, first, end):
    """Return x in the lanes first <= at + lane < end, else `other`."""
    key = lanes() + splat_i32(at)
    return where_ge(key, splat_i32(first), where_lt(key, splat_i32(end), x, other), other)


@inline
def _cap(x, cap):
    return splat_f32(cap) * vmath.tanh(x / splat_f32(cap))


@inline
def segments_of(args):
    """Return the address of the first segment's words, of the list that the op works on."""
    return load_i64(load_i64(args) + 8 * load_i64(args + SEGMENTS))


@inline
def _lower_far(p, slope, ahead):
    """Subtract slope * |key - query| from a page's 64 scores; `ahead` is query - first key.

    Press, Smith and Lewis, "Train Short, Test Long" (ALiBi), 2021.
    """
    zero, factor = splat_f32(ZERO), splat_f32(-slope)
    for i in range(0, PAGE, 16):
        distance = to_f32(lanes() + splat_i32(i - ahead))
        distance = vmax(distance, zero - distance)
        store_f32x16(p + 4 * i, fma(distance, factor, load_f32x16(p + 4 * i)))


def biases(alibi, reach):
    """Make bias(args, segment, group, g, row, n_rows, at, p): what distances add to scores.

    With `alibi` that is the head's slope times the distance, with `reach` the head's entry of a
    table for distances up to `reach`.
    """
    floats, margin = layout.table_floats(reach), layout.TABLE_MARGIN

    @inline
    def lower(args, segment, group, g, row, n_rows, at, p):
        slopes = load_i64(args + SLOPES) + 4 * g * group
        for r in range(n_rows):
            slope = load_f32(slopes + 4 * ((row + r) % group))
            _lower_far(p + 4 * PAGE * r, slope, position_of(segment, group, row + r) - at)

    @inline
    def look_up(args, segment, group, g, row, n_rows, at, p):
        heads = load_i64(args + SLOPES)
        for r in range(n_rows):
            head = heads + 4 * floats * (g * group + (row + r) % group)
            ahead = position_of(segment, group, row + r) - at
            for i in range(0, PAGE, 16):
                first = min(max(i - ahead, -reach - margin), reach + 1)
                added = load_f32x16(head + 4 * (first + reach + margin))
                score = p + 4 * (PAGE * r + i)
                store_f32x16(score, load_f32x16(score) + added)

    @inline
    def nothing(args, segment, group, g, row, n_rows, at, p):
        pass

    if reach:
        return look_up
    return lower if alibi else nothing


@inline
def step(p, first, end, cap, state, lane_sums, n):
    """Turn a page's 64 scores at p into weights; keys first to end - 1 are seen (end > first)."""
    a, b, c, d = (load_f32x16(p), load_f32x16(p + 64), load_f32x16(p + 128),
                  load_f32x16(p + 192))  # fmt: skip
    if cap != ZERO:
        a, b, c, d = _cap(a, cap), _cap(b, cap), _cap(c, cap), _cap(d, cap)
    partly = end - first < PAGE
    if partly:
        low = splat_f32(LOWEST)
        a, b = _visible(a, low, 0, first, end), _visible(b, low, 16, first, end)
        c, d = _visible(c, low, 32, first, end), _visible(d, low, 48, first, end)
    before = load_f32(state + 4 * n)
    top = vmax(vmax(vmax(a, b), vmax(c, d)), splat_f32(before))
    after = reduce_max(top)
    m = splat_f32(after)
    a, b, c, d = vmath.exp(a - m), vmath.exp(b - m), vmath.exp(c - m), vmath.exp(d - m)
    if partly:
        zero = splat_f32(ZERO)
        a, b = _visible(a, zero, 0, first, end), _visible(b, zero, 16, first, end)
        c, d = _visible(c, zero, 32, first, end), _visible(d, zero, 48, first, end)
    store_f32x16(p, a)
    store_f32x16(p + 64, b)
    store_f32x16(p + 128, c)
    store_f32x16(p + 192, d)
    factor = vmath.exp(splat_f32(before) - m)
    store_f32x16(lane_sums, fma(load_f32x16(lane_sums), factor, (a + b) + (c + d)))
    store_f32(state + 4 * n, after)
    for i in range(0, n, 16):
        store_f32x16(state + 4 * i, load_f32x16(state + 4 * i) * factor)


@inline
def merge(total, state, n):
    """Add a finished state (output, maximum, sum) to a total; nothing if it saw no key."""
    added = load_f32(state + 4 * n + 4)
    if added == ZERO:
        return
    m, other = splat_f32(load_f32(total + 4 * n)), splat_f32(load_f32(state + 4 * n))
    top = vmax(m, other)
    old, new = vmath.exp(m - top), vmath.exp(other - top)
    for i in range(0, n, 16):
        scaled = load_f32x16(total + 4 * i) * old
        store_f32x16(total + 4 * i, fma(load_f32x16(state + 4 * i), new, scaled))
    together = fma(splat_f32(added), new, splat_f32(load_f32(total + 4 * n + 4)) * old)
    store_f32(total + 4 * n, first_f32(top))
    store_f32(total + 4 * n + 4, first_f32(together))


@inline
def finish(args, total, n, head, row):
    """Write output / sum of row `row` of the run; a sink enters the sum as one more logit."""
    m, weight = splat_f32(load_f32(total + 4 * n)), splat_f32(load_f32(total + 4 * n + 4))
    dv, sinks, factor = load_i64(args + DV), load_i64(args + SINKS), splat_f32(ONE)
    if sinks != 0:
        sink = splat_f32(load_f32(sinks + 4 * head))
        top = vmax(m, sink)
        factor = vmath.exp(m - top)
        weight = fma(weight, factor, vmath.exp(sink - top))
    # A row that sees nothing gives zeros.
    factor = factor / weight if first_f32(weight) != ZERO else splat_f32(ZERO)
    out = load_i64(args + OUT) + row * load_i64(args + LDO) + 4 * head * dv
    for i in range(0, dv, 16):
        store_part(out + 4 * i, load_f32x16(total + 4 * i) * factor, dv - i)
