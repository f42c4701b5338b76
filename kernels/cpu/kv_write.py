"""Write keys and values to the pages of a cache, in its types."""

from jitllm.kernels import abi, formats
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cache_types import MAX_HADAMARD, is_quantized, pair
from jitllm.kernels.cpu.attention_row import page_at
from jitllm.kernels.cpu.cell_quantize import BLOCK, block_writer
from jitllm.kernels.cpu.hadamard import key_hadamard, rotate, value_hadamard
from jitllm.kernels.cpu.half import narrow, narrow_bfloat, store_words, store_words_part
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.vmath import load_part, store_part
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i64,
    load_u8,
    load_u16,
    stack_bytes,
    store_f32,
    store_f32x16,
    store_u8,
    store_u16,
)

PAGE = abi.PAGE_TOKENS
PART_BYTES = 4 * MAX_HADAMARD


def row_sizer(kind):
    """Make size(n): the bytes of a row of n numbers of type `kind`."""
    fmt = formats.get(kind.upper())
    numbers, n_bytes = fmt.block_size, fmt.block_bytes

    @inline
    def size(n):
        return n // numbers * n_bytes

    return size


def _key_writer(kind):
    """Make write(k, dk, column): one key to a column of [items][64]."""
    convert = narrow_bfloat if kind == "bf16" else narrow

    @inline
    def write_words(k, dk, column):
        words = stack_bytes(32)
        for d in range(0, dk, 16):
            store_words(words, convert(load_part(k + 4 * d, dk - d)))
            for i in range(min(16, dk - d)):
                store_u16(column + 2 * PAGE * (d + i), load_u16(words + 2 * i))

    @inline
    def write_floats(k, dk, column):
        for d in range(dk):
            store_f32(column + 4 * PAGE * d, load_f32(k + 4 * d))

    if is_quantized(kind):
        return _blocks_writer(kind, PAGE, key_hadamard)
    return write_floats if kind == "f32" else write_words


def _value_writer(kind):
    """Make write(v, dv, row): one value to its row."""
    convert = narrow_bfloat if kind == "bf16" else narrow

    @inline
    def write_words(v, dv, row):
        for d in range(0, dv, 16):
            store_words_part(row + 2 * d, convert(load_part(v + 4 * d, dv - d)), dv - d)

    @inline
    def write_floats(v, dv, row):
        for d in range(0, dv, 16):
            store_part(row + 4 * d, load_part(v + 4 * d, dv - d), dv - d)

    if is_quantized(kind):
        return _blocks_writer(kind, 1, value_hadamard)
    return write_floats if kind == "f32" else write_words


def _blocks_writer(kind, stride, hadamard_of):
    """Make write(x, n, at): a row of n floats as blocks whose bytes lie `stride` apart."""
    n_bytes, write_block = formats.get(kind.upper()).block_bytes, block_writer(kind)

    @inline
    def write(x, n, at):
        part, block, work = stack_bytes(PART_BYTES), stack_bytes(64), stack_bytes(64)
        size = hadamard_of(n)
        step = max(size, BLOCK)
        for start in range(0, n, step):
            for i in range(0, step, 16):
                store_f32x16(part + 4 * i, load_f32x16(x + 4 * (start + i)))
            if size > 0:
                rotate(part, step, size)
            for i in range(0, step, BLOCK):
                write_block(part + 4 * i, block, work)
                for j in range(n_bytes):
                    store_u8(at + stride * j, load_u8(block + j))
                at += stride * n_bytes

    return write


def kv_write(*, kv):
    """Make the kernel that writes keys and values to their pages (`abi.KV_WRITE`)."""
    keys, values = pair(kv)
    write_key, write_value = _key_writer(keys), _value_writer(values)
    key_row, value_row = row_sizer(keys), row_sizer(values)
    key_size = 1 if is_quantized(keys) else formats.get(keys.upper()).block_bytes

    def kernel(args, thread, n_threads, counter):
        run = load_i64(args)
        n_rows, segment = load_i64(run + 8 * abi.N_TOKENS), load_i64(run + 8 * load_i64(args + 96))
        k, ldk, v, ldv = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                          load_i64(args + 32))  # fmt: skip
        n_kv, dk, dv = load_i64(args + 40), load_i64(args + 48), load_i64(args + 56)
        pages, page_bytes = load_i64(args + 64), load_i64(args + 72)
        cache, table_pages = load_i64(args + 80), load_i64(args + 88)
        # A thread takes whole pages (of the first segment): two that write neighbouring columns of
        # one page would take its cache lines from each other, at a hundredth of the speed.
        shift = (load_i64(segment + 8 * abi.SEGMENT_POSITION) - load_i64(segment)) % PAGE
        unit = atomic_add(counter, 1)
        while unit * PAGE - shift < n_rows:
            for r in range(max(0, unit * PAGE - shift), min(n_rows, (unit + 1) * PAGE - shift)):
                while r >= load_i64(segment) + load_i64(segment + 8 * abi.SEGMENT_ROWS):
                    segment += 8 * abi.SEGMENT_WORDS
                position = load_i64(segment + 8 * abi.SEGMENT_POSITION) + r - load_i64(segment)
                tables = load_i64(segment + 8 * abi.SEGMENT_TABLES)
                page = page_at(pages, page_bytes, tables, cache, table_pages, position // PAGE)
                cell = position % PAGE
                for g in range(n_kv):
                    head = page + g * PAGE * (key_row(dk) + value_row(dv))
                    write_key(k + r * ldk + 4 * g * dk, dk, head + key_size * cell)
                    at = head + PAGE * key_row(dk) + cell * value_row(dv)
                    write_value(v + r * ldv + 4 * g * dv, dv, at)
            unit = atomic_add(counter, 1)

    return kernel
