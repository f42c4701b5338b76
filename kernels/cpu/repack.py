"""Re-lay a tensor from the file's blocks to the packed layout (see `kernels.packed`)."""

from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from jitllm.kernels import formats, packed
from jitllm.kernels.atomics import atomic_add
from jitllm.kernels.cpu.codes import storer
from jitllm.kernels.cpu.inline import helper
from jitllm.kernels.simd import (
    load_i32,
    load_i64,
    load_u16,
    stack_bytes,
    store_i32,
    store_u8,
    store_u16,
)

ROWS = packed.ROWS
# Codes of 16 rows, one row's scales, and 8 interleaved chunks.
SCRATCH_BYTES = ROWS * 256 + 64 + 512


def _array_maker(dtype):
    """Return an intrinsic that views n elements at an address as an array, for `unpack_block`."""
    kind = types.Array(dtype, 1, "C")

    @intrinsic
    def array_at(typing_context, address, n):
        def codegen(context, builder, sig, args):
            array = arrayobj.make_array(kind)(context, builder)
            size = context.get_constant(types.intp, dtype.bitwidth // 8)
            data = builder.inttoptr(args[0], array.data.type)
            arrayobj.populate_array(array, data, [args[1]], [size], size, None)
            return array._getvalue()

        return kind(types.intp, types.intp), codegen

    return array_at


_bytes_at, _words_at = _array_maker(types.uint8), _array_maker(types.uint16)


def repack(*, fmt: str):
    """Return the kernel that packs rows of `fmt`: args source, target, n, k (see `abi.REPACK`)."""
    return _repack_float(fmt) if formats.get(fmt).scales == "float" else _repack_codes(fmt)


def _repack_float(fmt):
    size = formats.get(fmt).block_bytes

    def repack_float(args, thread, n_threads, counter):
        source, target = load_i64(args + 8), load_i64(args + 16)
        n, k = load_i64(args + 24), load_i64(args + 32)
        block = atomic_add(counter, 1)
        while block * ROWS < n:
            out = target + block * k * ROWS * size
            for row in range(ROWS):
                valid = block * ROWS + row < n
                line = source + (block * ROWS + row) * k * size
                for i in range(k):
                    at = out + (i * ROWS + row) * size
                    if size == 4:
                        store_i32(at, load_i32(line + 4 * i) if valid else 0)
                    else:
                        store_u16(at, load_u16(line + 2 * i) if valid else 0)
            block = atomic_add(counter, 1)

    return repack_float


def _repack_codes(fmt):
    layout = formats.get(fmt)
    unpack = helper(formats.unpack_block(fmt))
    store_codes = storer(layout.planes)
    weights, unit, header = (
        packed.unit_weights(layout), packed.unit_bytes(fmt), packed.header_bytes(layout),
    )  # fmt: skip
    size, block_bytes, groups = layout.block_size, layout.block_bytes, weights // layout.group
    code_bytes, center = 64 * layout.bits, 0 if layout.table else layout.center
    has_offset, has_sub_scales = layout.scales in ("dm", "k_dm"), layout.scales in ("k_dm", "k_d")
    halves = {"d16": groups, "e8m0": 0}.get(layout.scales, 1)

    @helper
    def write_row(source, out, row, codes_at, valid):
        """Unpack one row's block: codes to the scratch at codes_at, scales to the header."""
        scratch = codes_at + ROWS * 256
        codes = _bytes_at(codes_at + row * 256, 256)
        half = _words_at(scratch, 8)
        sc = _bytes_at(scratch + 16, 16)
        mn = _bytes_at(scratch + 32, 16)
        if valid:
            unpack(_bytes_at(source, block_bytes), codes, half, sc, mn)
        else:
            for i in range(256):
                codes[i] = center
            for i in range(16):
                half[i & 7] = sc[i] = mn[i] = 0
        if halves == 0:
            store_u8(out + row, half[0])
        for i in range(halves):
            store_u16(out + 2 * (i * ROWS + row), half[i])
        at = out + 2 * ROWS * halves
        if has_offset:
            store_u16(at + 2 * row, half[1])
            at += 2 * ROWS
        if has_sub_scales:
            for g in range(groups):
                store_u8(at + g * ROWS + row, sc[g])
                if has_offset:
                    store_u8(at + (groups + g) * ROWS + row, mn[g])

    @helper
    def write_codes(out, codes_at):
        """Interleave the codes of 16 rows 4 by 4 and pack them."""
        chunks = codes_at + ROWS * 256 + 64
        for g in range(weights // 32):
            for i in range(8):
                for row in range(ROWS):
                    word = load_i32(codes_at + row * 256 + g * 32 + i * 4)
                    store_i32(chunks + i * 64 + row * 4, word)
            store_codes(chunks, out + header + g * code_bytes)

    def repack_codes(args, thread, n_threads, counter):
        source, target = load_i64(args + 8), load_i64(args + 16)
        n, k = load_i64(args + 24), load_i64(args + 32)
        codes_at = stack_bytes(SCRATCH_BYTES)
        row_bytes = k // size * block_bytes
        block = atomic_add(counter, 1)
        while block * ROWS < n:
            out = target + block * (k // weights) * unit
            for u in range(k // weights):
                for row in range(ROWS):
                    line = source + (block * ROWS + row) * row_bytes
                    at = line + u * block_bytes
                    write_row(at, out, row, codes_at, block * ROWS + row < n)
                write_codes(out, codes_at)
                out += unit
            block = atomic_add(counter, 1)

    return repack_codes
