"""Indexes of sparse attention: which positions of a long sequence a row attends to.

A row's products with the index keys of all its positions cost heads * dim fma a position, 16
positions a vector, keys read page by page; a row whose positions are no more than what may be
chosen costs nothing. Bits of a row depend on its own queries and keys alone.
"""

from jitllm.kernels import abi
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.attention_tile import BLOCK_ROWS, scores
from jitllm.kernels.cpu.inline import helper, inline
from jitllm.kernels.cpu.top_k import is_chosen, make_finite, threshold
from jitllm.kernels.cpu.vmath import ZERO, as_f32
from jitllm.kernels.simd import (
    fma,
    load_f32,
    load_f32x16,
    load_i32,
    load_i64,
    splat_f32,
    store_f32,
    store_f32x16,
    vmax,
)

PAGE = abi.PAGE_TOKENS

# Byte offsets of the argument words.
(Q, LDQ, W, LDW, N_HEADS, DK, PAGES, PAGE_BYTES, CACHE, OUT, LDO, TOP_K, BLOCK, LOCAL, SCALE,
 SCRATCH, SCRATCH_BYTES) = range(8, 144, 8)  # fmt: skip


@inline
def segment_of(run, row):
    """Return the address of the words of the segment that a row belongs to."""
    segment = load_i64(run + 8 * abi.SEGMENTS)
    while row >= load_i64(segment) + load_i64(segment + 8 * abi.SEGMENT_ROWS):
        segment += 8 * abi.SEGMENT_WORDS
    return segment


@inline
def page_of(segment, cache, pages, page_bytes, block):
    """Return the address of the page with positions 64 block to 64 block + 63."""
    table = load_i64(load_i64(segment + 8 * abi.SEGMENT_TABLES) + 8 * cache)
    return pages + load_i32(table + 4 * block) * page_bytes


@inline
def position_of(segment, row):
    """Return the position of a row of the run in its segment."""
    return load_i64(segment + 8 * abi.SEGMENT_POSITION) + row - load_i64(segment)


@inline
def write_ends(out, first, end, stride, most):
    """Write the positions s from first to end - 1 with (s + 1) % stride == 0, at most `most`."""
    s, i = first + (stride - (first + 1) % stride) % stride, 0
    while i < most:
        store_f32(out + 4 * i, as_f32(s if s < end else -1))
        s += stride
        i += 1


@inline
def _add_heads(products, n_heads, w, scale, target):
    """Add w * scale * max(0, product) of some heads to a page's 64 scores; w 0: without w."""
    for r in range(n_heads):
        weight = splat_f32(scale)
        if w != 0:
            weight = splat_f32(load_f32(w + 4 * r) * scale)
        for i in range(0, 4 * PAGE, 64):
            positive = vmax(load_f32x16(products + 4 * PAGE * r + i), splat_f32(ZERO))
            store_f32x16(target + i, fma(positive, weight, load_f32x16(target + i)))


def positions(*, kv):
    """Make the kernel of the lightning indexer for a cache of type `kv`: f16 or f32."""
    one, many = scores(kv, 1), scores(kv, BLOCK_ROWS)

    @helper
    def score_page(args, row, keys, products, target):
        n_heads, dk = load_i64(args + N_HEADS), load_i64(args + DK)
        q = load_i64(args + Q) + row * load_i64(args + LDQ)
        w, scale, step = load_i64(args + W), load_f32(args + SCALE), 0
        if w != 0:
            w, step = w + row * load_i64(args + LDW), 4
        for i in range(0, 4 * PAGE, 64):
            store_f32x16(target + i, splat_f32(ZERO))
        h = 0
        while h + BLOCK_ROWS <= n_heads:
            many(q + 4 * dk * h, 4 * dk, keys, dk, products, keys)
            _add_heads(products, BLOCK_ROWS, w + step * h, scale, target)
            h += BLOCK_ROWS
        while h < n_heads:
            one(q + 4 * dk * h, 4 * dk, keys, dk, products, keys)
            _add_heads(products, 1, w + step * h, scale, target)
            h += 1

    @helper
    def choose(args, segment, row, n, scratch):
        """Score n positions and write the best."""
        out = load_i64(args + OUT) + row * load_i64(args + LDO)
        pages, page_bytes = load_i64(args + PAGES), load_i64(args + PAGE_BYTES)
        cache, products = load_i64(args + CACHE), scratch
        all_scores = scratch + 4 * PAGE * BLOCK_ROWS
        for block in range((n + PAGE - 1) // PAGE):
            keys = page_of(segment, cache, pages, page_bytes, block)
            score_page(args, row, keys, products, all_scores + 4 * PAGE * block)
        stride = load_i64(args + BLOCK)
        n = n // stride
        for i in range(n if stride > 1 else 0):
            store_f32(all_scores + 4 * i, load_f32(all_scores + 4 * (i * stride + stride - 1)))
        make_finite(all_scores, n)
        bound, equals = threshold(all_scores, n, load_i64(args + TOP_K))
        for i in range(n):
            chosen, equals = is_chosen(all_scores, i, bound, equals)
            if chosen:
                store_f32(out, as_f32(i * stride + stride - 1))
                out += 4

    def index_positions(args, thread, n_threads, counter):
        run, top_k = load_i64(args), load_i64(args + TOP_K)
        scratch = load_i64(args + SCRATCH) + thread * load_i64(args + SCRATCH_BYTES)
        row = atomic_add(counter, 1)
        while row < load_i64(run + 8 * abi.N_TOKENS):
            segment = segment_of(run, row)
            n = position_of(segment, row) + 1
            if n // load_i64(args + BLOCK) <= top_k:
                out = load_i64(args + OUT) + row * load_i64(args + LDO)
                write_ends(out, 0, n, load_i64(args + BLOCK), top_k)
            else:
                choose(args, segment, row, n, scratch)
            row = atomic_add(counter, 1)

    return index_positions


@inline
def _best_of_blocks(all_scores, n, block, local):
    """Make scores of positions those of blocks, in place; returns the number of blocks."""
    last = (n - 1) // block
    for b in range(last + 1):
        best = load_f32(all_scores + 4 * b * block)
        for i in range(b * block + 1, min(n, (b + 1) * block)):
            best = max(best, load_f32(all_scores + 4 * i))
        store_f32(all_scores + 4 * b, best)
    for b in range(max(0, last + 1 - local), last + 1):
        store_f32(all_scores + 4 * b, as_f32(3.5e38))
    return last + 1


def blocks(*, kv):
    """Make the kernel of the index of blocks for a cache of type `kv`: f16 or f32."""
    one = scores(kv, 1)

    @helper
    def choose(args, segment, row, head, n, out, scratch):
        """Score n positions for one head and write those of the best blocks."""
        dk, block, top_k = load_i64(args + DK), load_i64(args + BLOCK), load_i64(args + TOP_K)
        q = load_i64(args + Q) + row * load_i64(args + LDQ) + 4 * dk * head
        pages, page_bytes = load_i64(args + PAGES), load_i64(args + PAGE_BYTES)
        for page in range((n + PAGE - 1) // PAGE):
            keys = page_of(segment, load_i64(args + CACHE), pages, page_bytes, page)
            one(q, 4 * dk, keys, dk, scratch + 4 * PAGE * page, keys)
        make_finite(scratch, n)
        n_blocks = _best_of_blocks(scratch, n, block, load_i64(args + LOCAL))
        bound, equals = threshold(scratch, n_blocks, top_k)
        written = 0
        for b in range(n_blocks):
            chosen, equals = is_chosen(scratch, b, bound, equals)
            if chosen:
                for i in range(b * block, min(n, (b + 1) * block)):
                    store_f32(out + 4 * written, as_f32(i))
                    written += 1
        for i in range(written, top_k * block):
            store_f32(out + 4 * i, as_f32(-1))

    def index_blocks(args, thread, n_threads, counter):
        run, n_heads = load_i64(args), load_i64(args + N_HEADS)
        most = load_i64(args + TOP_K) * load_i64(args + BLOCK)
        scratch = load_i64(args + SCRATCH) + thread * load_i64(args + SCRATCH_BYTES)
        unit = atomic_add(counter, 1)
        while unit < load_i64(run + 8 * abi.N_TOKENS) * n_heads:
            row, head = unit // n_heads, unit % n_heads
            segment = segment_of(run, row)
            n = position_of(segment, row) + 1
            out = load_i64(args + OUT) + row * load_i64(args + LDO) + 4 * head * most
            if n <= most:
                write_ends(out, 0, n, 1, most)
            else:
                choose(args, segment, row, head, n, out, scratch)
            unit = atomic_add(counter, 1)

    return index_blocks


def lists(args, thread, n_threads, counter):
    """Positions behind p - window that end `stride` ones; words y ldy most window stride."""
    run = load_i64(args)
    y, ldy, most = load_i64(args + 8), load_i64(args + 16), load_i64(args + 24)
    window, stride = load_i64(args + 32), load_i64(args + 40)
    row = atomic_add(counter, 1)
    while row < load_i64(run + 8 * abi.N_TOKENS):
        position = load_i32(load_i64(run + 8 * abi.POSITIONS) + 4 * row)
        first = max(0, position - window + 1) if window > 0 else 0
        write_ends(y + row * ldy, first, position + 1, stride, most)
        row = atomic_add(counter, 1)


def whole_blocks(args, thread, n_threads, counter):
    """Blocks that end at x, then what is behind the last block; words x ldx most y ldy block."""
    run, most, block = load_i64(args), load_i64(args + 24), load_i64(args + 48)
    row = atomic_add(counter, 1)
    while row < load_i64(run + 8 * abi.N_TOKENS):
        n = load_i32(load_i64(run + 8 * abi.POSITIONS) + 4 * row) + 1
        x = load_i64(args + 8) + row * load_i64(args + 16)
        y = load_i64(args + 32) + row * load_i64(args + 40)
        written = 0
        for i in range(most):
            end = int(load_f32(x + 4 * i)) + 1
            for s in range(max(0, end - block), end):
                store_f32(y + 4 * written, as_f32(s))
                written += 1
        for s in range(n // block * block, n):
            store_f32(y + 4 * written, as_f32(s))
            written += 1
        for i in range(written, most * block + block - 1):
            store_f32(y + 4 * i, as_f32(-1))
        row = atomic_add(counter, 1)
