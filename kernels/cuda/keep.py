"""Write keys and values of a run's rows to the pages of a layer, in the types of its cache.

A page has for each head keys [items][64], then values [64][items]; items are numbers, or bytes of
quantized rows (`kernels.cache_types`).
"""

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cache_types import MAX_HADAMARD, MIN_HADAMARD, NAMES, is_quantized
from jitllm.kernels.cuda._blocks import BLOCK, block_writer
from jitllm.kernels.cuda._run import PAGE, n_rows, page_of, position_of, segment_of
from jitllm.kernels.gpu.vocabulary import (
    A,
    U,
    divide_u32,
    group_of_row,
    group_y,
    inline,
    lane,
    load_f32,
    load_shared_f32,
    shared,
    shuffle_xor_f32,
    sqrt,
    store_bf16,
    store_f16,
    store_f32,
    store_shared_f32,
    sync_threads,
    thread,
    to_f32,
    unroll,
    warp,
)

THREADS = 64
ZERO, ONE = np.float32(0), np.float32(1)


def _number_writer(kind):
    """Make write for rows of numbers; see `_writer`."""
    store = {"f32": store_f32, "f16": store_f16, "bf16": store_bf16}[kind]

    @inline
    def write(x, unit, n, width, at, head_bytes, stride):
        i = THREADS * unit + thread()
        if i < n:
            head = divide_u32(i, width)
            store(at + head * head_bytes + (i - head * width) * stride, load_f32(x + 4 * i))

    return write


@inline
def _rotate_block(v):
    """Multiply the numbers of a warp's lanes with the matrix of 32 columns."""
    for i in unroll(5):
        other = shuffle_xor_f32(v, 1 << i)
        v = v + other if lane() >> i & 1 == 0 else other - v
    return v


@inline
def _rotate_rest(room, size):
    """Go on with `size` numbers in shared memory, of which each 32 have been multiplied."""
    step = BLOCK
    while step < size:
        sync_threads()
        for i in range(thread(), size >> 1, THREADS):
            at = room + 4 * (2 * i - (i & (step - 1)))
            a, b = load_shared_f32(at), load_shared_f32(at + 4 * step)
            store_shared_f32(at, a + b)
            store_shared_f32(at + 4 * step, a - b)
        step *= 2


def _block_writer(kind, largest):
    """Make write for quantized rows, multiplied with a Hadamard matrix; see `_writer`.

    Of a matrix with more than 64 columns, the workgroup of the first 64 does all.
    """
    put, n_bytes = block_writer(kind), formats.get(kind.upper()).block_bytes
    room_bytes = 4 * largest

    @inline
    def hadamard(width):
        size = MIN_HADAMARD if width & (MIN_HADAMARD - 1) == 0 else 0
        while 0 < size < largest and width & (2 * size - 1) == 0:
            size *= 2
        return size

    @inline
    def write(x, unit, n, width, at, head_bytes, stride):
        room, size, start = shared(room_bytes), hadamard(width), THREADS * unit
        span = max(size, THREADS)
        if start & (span - 1) != 0:
            return
        for i in range(thread(), span, THREADS):
            v = load_f32(x + 4 * (start + i)) if start + i < n else ZERO
            store_shared_f32(room + 4 * i, _rotate_block(v) if size > 0 else v)
        _rotate_rest(room, size)
        sync_threads()
        factor = ONE / sqrt(to_f32(size)) if size > 0 else ONE
        for i in range(warp(), span >> 5, THREADS // BLOCK):
            first = start + BLOCK * i
            if first < n:
                v, head = load_shared_f32(room + 4 * (BLOCK * i + lane())), divide_u32(first, width)
                block = first - head * width >> 5
                put(v * factor, at + head * head_bytes + block * n_bytes * stride, stride)
        sync_threads()  # before the room is used again

    return write


def _writer(kind, largest):
    """Make write(x, unit, n, width, at, head_bytes, stride): 64 of the n numbers of a row.

    Items of a head, whose rows have `width` numbers, lie `stride` apart from `at` on.
    """
    return _block_writer(kind, largest) if is_quantized(kind) else _number_writer(kind)


def _row_bytes(kind):
    """Return the bytes of an item, of a block, and the numbers of a block."""
    fmt = formats.get(kind.upper())
    size = 1 if is_quantized(kind) else fmt.block_bytes
    return size, fmt.block_bytes, fmt.block_size


def keep(keys, values):
    """Make the write for the types at these places of `cache_types.NAMES`."""
    keys, values = NAMES[keys], NAMES[values]
    write_keys = _writer(keys, MAX_HADAMARD)
    write_values = _writer(values, MIN_HADAMARD)
    key_size, _, _ = _row_bytes(keys)
    value_size, value_bytes, value_block = _row_bytes(values)

    def kernel(
        run: A, k: A, v: A, pages: A,
        ldk: U, ldv: U, heads: U, dk: U, dv: U,
        head_bytes: U, key_bytes: U, page_bytes: U, cache: U, n_caches: U,
    ):  # fmt: skip
        row, unit = group_y(), group_of_row()
        if row >= n_rows(run):
            return
        segment = segment_of(run, row)
        position = position_of(run, segment, row)
        page = page_of(run, segment, n_caches, cache, position >> 6, pages, page_bytes)
        cell, of_keys, of_values = position & (PAGE - 1), heads * dk, heads * dv
        if THREADS * unit < of_keys:
            at = page + key_size * cell
            write_keys(k + 4 * row * ldk, unit, of_keys, dk, at, head_bytes, key_size * PAGE)
        # values end where the workgroups do: keys and values may both have half of one
        unit += (of_values + THREADS - 1 >> 6) - (of_keys + of_values + THREADS - 1 >> 6)
        if unit >= 0:
            at = page + key_bytes + cell * (divide_u32(dv, value_block) * value_bytes)
            write_values(v + 4 * row * ldv, unit, of_values, dv, at, head_bytes, value_size)

    return kernel
