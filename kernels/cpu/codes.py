"""Read and write the codes of a packed weight group: 32 weights of 16 rows, in bit planes."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.cpu.lookup import lookup
from jitllm.kernels.packed import CHUNK_BYTES
from jitllm.kernels.simd import I64, Tile, i8x64, i16x32, pointer

CHUNKS = 8
_BYTES = Tile(i8x64, CHUNKS)


def _shift(builder: Any, x: Any, bits: int) -> Any:
    """Shift bytes right by `bits` (left if negative), 16 bits at a time: callers mask."""
    if bits == 0:
        return x
    wide, amount = builder.bitcast(x, i16x32.ir), ir.Constant(i16x32.ir, [abs(bits)] * 32)
    wide = builder.lshr(wide, amount) if bits > 0 else builder.shl(wide, amount)
    return builder.bitcast(wide, i8x64.ir)


def _field(builder: Any, x: Any, start: int, bits: int, to: int) -> Any:
    """Move the `bits`-bit field at `start` of every byte to bit `to`; other bits become 0."""
    if bits == 8:
        return x
    mask = ((1 << bits) - 1) << to
    mask = mask - 256 if mask > 127 else mask
    return builder.and_(_shift(builder, x, start - to), ir.Constant(i8x64.ir, [mask] * 64))


def _vector(builder: Any, address: Any, index: int) -> Any:
    return pointer(builder, builder.add(address, ir.Constant(I64, CHUNK_BYTES * index)), i8x64.ir)


def loader(planes: tuple[int, ...], bias: int = 0, table: tuple[int, ...] = ()) -> Any:
    """Return an intrinsic that loads 8 chunks of codes from an address.

    They come plus `bias`, or, if there is a table, as the entry of each code plus 128.
    """

    @intrinsic
    def load_codes(typing_context, address):
        def codegen(context, builder, sig, args):
            chunks, vector, start = [None] * CHUNKS, 0, 0
            for bits in planes:
                per_vector = 8 // bits
                for i in range(CHUNKS):
                    if i % per_vector == 0:
                        data = builder.load(_vector(builder, args[0], vector))
                        data.align, vector = 1, vector + 1
                    part = _field(builder, data, bits * (i % per_vector), bits, start)
                    chunks[i] = part if start == 0 else builder.or_(chunks[i], part)
                start += bits
            value = ir.Constant(ir.ArrayType(i8x64.ir, CHUNKS), ir.Undefined)
            for i, chunk in enumerate(chunks):
                if table:
                    chunk = lookup(builder, chunk, [entry + 128 for entry in table])
                if bias:
                    chunk = builder.add(chunk, ir.Constant(i8x64.ir, [bias] * 64))
                value = builder.insert_value(value, chunk, i)
            return value

        return _BYTES(types.intp), codegen

    return load_codes


def storer(planes: tuple[int, ...]) -> Any:
    """Return an intrinsic that packs the 8 chunks (one code a byte) at `source` to `target`."""

    @intrinsic
    def store_codes(typing_context, source, target):
        def codegen(context, builder, sig, args):
            chunks = []
            for i in range(CHUNKS):
                chunk = builder.load(_vector(builder, args[0], i))
                chunk.align = 1
                chunks.append(chunk)
            vector, start = 0, 0
            for bits in planes:
                for first in range(0, CHUNKS, 8 // bits):
                    parts = [
                        _field(builder, chunks[first + i], start, bits, bits * i)
                        for i in range(8 // bits)
                    ]
                    data = parts[0]
                    for part in parts[1:]:
                        data = builder.or_(data, part)
                    builder.store(data, _vector(builder, args[1], vector)).align = 1
                    vector += 1
                start += bits
            return context.get_dummy_value()

        return types.void(types.intp, types.intp), codegen

    return store_codes


@intrinsic
def store_chunks(typing_context, chunks, address):
    """Store 8 chunks of codes one after the other."""

    def codegen(context, builder, sig, args):
        for i in range(CHUNKS):
            chunk = builder.extract_value(args[0], i)
            builder.store(chunk, _vector(builder, args[1], i)).align = 1
        return context.get_dummy_value()

    return types.void(_BYTES, types.intp), codegen
