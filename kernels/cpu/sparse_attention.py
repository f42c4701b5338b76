"""Attention to chosen positions of a paged cache.

A unit of work is one row and up to TILE_HEADS of its query heads that share a key head. It gathers
64 chosen keys and values into a page of its own, which its heads then use as attention uses a page
of the cache: one online-softmax step a page, positions ascending. The gathering moves dk + dv
numbers a position, once for all heads of the tile. Bits of a row depend on its own query, choice
and keys alone.
"""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu import sparse_layout, vmath
from jitllm.kernels.cpu.attention_layout import padded, state_floats
from jitllm.kernels.cpu.attention_row import reset, step
from jitllm.kernels.cpu.attention_tile import BLOCK_ROWS, cell_bytes, scores, weigh
from jitllm.kernels.cpu.half import load_half_part, store_half_part
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.sparse_index import page_of, position_of, segment_of
from jitllm.kernels.cpu.vmath import ONE, ZERO, first_f32, load_part, store_part
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i64,
    load_u16,
    reduce_add,
    splat_f32,
    store_f32,
    store_f32x16,
    store_u16,
    vmax,
)

PAGE, TILE_HEADS = abi.PAGE_TOKENS, sparse_layout.TILE_HEADS

# Byte offsets of the argument words.
(Q, LDQ, CHOSEN, LDC, OUT, LDO, N_HEADS, N_KV_HEADS, DK, DV, PAGES, PAGE_BYTES, CACHE, LISTS,
 JOINT, SCALE, SINKS, SCRATCH, SCRATCH_BYTES) = range(8, 160, 8)  # fmt: skip

for _size in (padded, state_floats):
    inline(_size)


@inline
def _copy_half(source, target):
    store_u16(target, load_u16(source))


@inline
def _copy_float(source, target):
    store_f32(target, load_f32(source))


def _gatherer(kv, keys_only):
    """Make gather(args, segment, g, chosen, start, end, position, page): fill a page of own.

    Returns (positions gathered, where to go on in the choice).
    """
    size = cell_bytes(kv)
    copy = _copy_half if kv == "f16" else _copy_float
    load, store = (load_half_part, store_half_part) if kv == "f16" else (load_part, store_part)

    @helper
    def gather(args, segment, g, chosen, start, end, position, page):
        dk, dv = load_i64(args + DK), load_i64(args + DV)
        stored = dk if keys_only else dk + dv
        pages, page_bytes = load_i64(args + PAGES), load_i64(args + PAGE_BYTES)
        n = 0
        while n < PAGE and start < end:
            wanted = load_f32(chosen + 4 * start)
            start += 1
            if wanted >= ZERO and wanted <= position:
                at = int(wanted)
                keys = page_of(segment, load_i64(args + CACHE), pages, page_bytes, at // PAGE)
                keys += g * stored * PAGE * size
                values, cell = keys + dk * PAGE * size, at % PAGE
                for d in range(dk):
                    copy(keys + size * (PAGE * d + cell), page + size * (PAGE * d + n))
                target = page + size * (PAGE * dk + dv * n)
                if keys_only:
                    for d in range(dv):
                        copy(keys + size * (PAGE * d + cell), target + size * d)
                else:
                    for i in range(0, dv, 16):
                        part = load(values + size * (dv * cell + i), dv - i)
                        store(target + size * i, part, dv - i)
                n += 1
        return n, start

    return gather


def _page_user(kv):
    """Make use_page(args, page, n_keys, n_heads, q, p, lane_sums, states), a softmax step."""
    size = cell_bytes(kv)
    one_scores, many_scores = scores(kv, 1), scores(kv, BLOCK_ROWS)
    one_weigh, many_weigh = weigh(kv, 1), weigh(kv, BLOCK_ROWS)

    @helper
    def use_page(args, page, n_keys, n_heads, q, p, lane_sums, states):
        """One softmax step of all heads over the first keys of the gathered page."""
        dk, dv = load_i64(args + DK), load_i64(args + DV)
        n, stride, values = padded(dv), 4 * state_floats(dv), page + dk * PAGE * size
        for h in range(0, n_heads, BLOCK_ROWS):
            queries, state = q + 4 * padded(dk) * h, states + stride * h
            here = min(BLOCK_ROWS, n_heads - h)
            if here == 1:
                one_scores(queries, 4 * padded(dk), page, dk, p, values)
            else:
                many_scores(queries, 4 * padded(dk), page, dk, p, values)
            for r in range(here):
                sums = lane_sums + 64 * (h + r)
                step(p + 4 * PAGE * r, 0, n_keys, ZERO, state + stride * r, sums, n)
            if here == 1:
                one_weigh(p, values, dv, 0, n_keys, state, stride, page)
            else:
                many_weigh(p, values, dv, 0, n_keys, state, stride, page)

    return use_page


@inline
def _finish(args, state, lane_sums, n, row, head):
    """Write output / sum of a head; a sink enters the sum as one more logit."""
    m, weight = load_f32(state + 4 * n), splat_f32(reduce_add(load_f32x16(lane_sums)))
    dv, sinks, factor = load_i64(args + DV), load_i64(args + SINKS), splat_f32(ONE)
    if sinks != 0:
        sink = splat_f32(load_f32(sinks + 4 * head))
        top = vmax(splat_f32(m), sink)
        factor = vmath.exp(splat_f32(m) - top)
        weight = fma(weight, factor, vmath.exp(sink - top))
    # A row that sees nothing gives zeros.
    factor = factor / weight if first_f32(weight) != ZERO else splat_f32(ZERO)
    out = load_i64(args + OUT) + row * load_i64(args + LDO) + 4 * head * dv
    for i in range(0, dv, 16):
        store_part(out + 4 * i, load_f32x16(state + 4 * i) * factor, dv - i)


def attention(*, kv, keys_only):
    """Make the kernel for a cache of type `kv`: f16 or f32.

    `keys_only`: the cache holds no values, which are the first dv columns of keys.
    """
    gather, use_page = _gatherer(kv, keys_only), _page_user(kv)

    @helper
    def heads_of_row(args, row, g, first, n_heads, scratch):
        """Attention of `n_heads` heads from `first` on to key head g, or, if joint, from g on."""
        dk, dv, segment = load_i64(args + DK), load_i64(args + DV), segment_of(load_i64(args), row)
        n, stride, scale = padded(dv), 4 * state_floats(dv), splat_f32(load_f32(args + SCALE))
        q, p = scratch, scratch + 4 * TILE_HEADS * padded(dk)
        lane_sums = p + 4 * TILE_HEADS * PAGE
        states = lane_sums + 64 * TILE_HEADS
        page = states + TILE_HEADS * stride
        source = load_i64(args + Q) + row * load_i64(args + LDQ) + 4 * dk * first
        for h in range(n_heads):
            for i in range(0, dk, 16):
                part = load_part(source + 4 * (dk * h + i), dk - i) * scale
                store_f32x16(q + 4 * (padded(dk) * h + i), part)
            reset(states + stride * h, n)
            store_f32x16(lane_sums + 64 * h, splat_f32(ZERO))
        chosen = load_i64(args + CHOSEN) + row * load_i64(args + LDC)
        position, last = position_of(segment, row), g
        if load_i64(args + JOINT) != 0:
            last = load_i64(args + N_KV_HEADS) - 1
        while g <= last:
            start = load_i64(load_i64(args + LISTS) + 16 * g)
            end = load_i64(load_i64(args + LISTS) + 16 * g + 8)
            n_keys, start = gather(args, segment, g, chosen, start, end, position, page)
            while n_keys > 0:
                use_page(args, page, n_keys, n_heads, q, p, lane_sums, states)
                n_keys, start = gather(args, segment, g, chosen, start, end, position, page)
            g += 1
        for h in range(n_heads):
            _finish(args, states + stride * h, lane_sums + 64 * h, n, row, first + h)

    def sparse_attention(args, thread, n_threads, counter):
        rows, n_kv = load_i64(load_i64(args) + 8 * abi.N_TOKENS), load_i64(args + N_KV_HEADS)
        if load_i64(args + JOINT) != 0:
            n_kv = 1  # units take all key heads together
        group = load_i64(args + N_HEADS) // n_kv
        tiles = (group + TILE_HEADS - 1) // TILE_HEADS
        scratch = load_i64(args + SCRATCH) + thread * load_i64(args + SCRATCH_BYTES)
        unit = atomic_add(counter, 1)
        while unit < rows * n_kv * tiles:
            row, g, first = unit // (n_kv * tiles), unit // tiles % n_kv, unit % tiles * TILE_HEADS
            n_heads = min(TILE_HEADS, group - first)
            heads_of_row(args, row, g, g * group + first, n_heads, scratch)
            unit = atomic_add(counter, 1)

    return sparse_attention
