"""Operations on tiles: several vectors that stay in registers, unrolled when compiled.

A weight tile holds `m` vectors (one per row block), an accumulator tile `m * n` (row block major,
n = activation rows). Activation fields lie `n` words apart (see `packed`).
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.cpu.dot import Sums16, dot4_ir, prepared, sums16
from jitllm.kernels.simd import (
    F32,
    I32,
    Tile,
    const,
    declare,
    f32x16,
    i8x64,
    i32x16,
    pointer,
    splat_ir,
)


def _load(builder: Any, address: Any, kind: ir.Type, offset: int, align: int) -> Any:
    at = builder.add(address, ir.Constant(address.type, offset))
    value = builder.load(pointer(builder, at, kind))
    value.align = align
    return value


def _pack(builder: Any, kind: Tile, vectors: list[Any]) -> Any:
    value = ir.Constant(ir.ArrayType(kind.vec.ir, kind.n), ir.Undefined)
    for i, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, i)
    return value


def _unpack(builder: Any, tile: Any) -> list[Any]:
    return [builder.extract_value(tile, i) for i in range(tile.type.count)]


@intrinsic(prefer_literal=True)
def zeros(typing_context, n):
    """Return a tile of `n` (a literal) zero f32x16."""
    kind = Tile(f32x16, n.literal_value)

    def codegen(context, builder, sig, args):
        return _pack(builder, kind, [const(f32x16, 0.0)] * kind.n)

    return kind(types.literal(n.literal_value)), codegen


@intrinsic(prefer_literal=True)
def starts(typing_context, m, n, address, shift):
    """Return the first values of integer sums: m copies of n int32 words at `address` >> shift."""
    rows, columns, bits = m.literal_value, n.literal_value, shift.literal_value
    kind = Tile(i32x16, rows * columns)

    def codegen(context, builder, sig, args):
        words = []
        for j in range(columns):
            word = _load(builder, args[2], I32, 4 * j, 4)
            if bits:
                word = builder.ashr(word, ir.Constant(I32, bits))
            words.append(splat_ir(builder, word, i32x16))
        return _pack(builder, kind, words * rows)

    return kind(
        *[types.literal(x) for x in (rows, columns)], types.intp, types.literal(bits)
    ), codegen


@intrinsic(prefer_literal=True)
def zero_starts(typing_context, m, n):
    """Return m * n integer sums that start at zero."""
    kind = Tile(i32x16, m.literal_value * n.literal_value)

    def codegen(context, builder, sig, args):
        return _pack(builder, kind, [const(i32x16, 0)] * kind.n)

    return kind(types.literal(m.literal_value), types.literal(n.literal_value)), codegen


def _dot_chunks(builder: Any, sums: list[Any], chunk_of: Any, m: int, x: Any, span: Any) -> Any:
    """Add chunks first..first+count-1; `chunk_of(i, c)` is chunk c of row block i."""
    first, count, bits = span
    n = len(sums) // m
    narrow = sums16(builder, bits)
    if narrow:
        return _dot_chunks16(builder, sums, chunk_of, m, x, span, narrow)
    for chunk in range(first, first + count):
        weights = [prepared(builder, chunk_of(i, chunk), bits) for i in range(m)]
        for j in range(n):
            codes = _activations(builder, x, chunk * n + j)
            for i in range(m):
                sums[i * n + j] = dot4_ir(builder, sums[i * n + j], weights[i], codes)
    return sums


def _activations(builder: Any, x: Any, index: int) -> Any:
    """Return 4 codes of one row of x, for each of 16 rows of weights."""
    word = _load(builder, x, I32, 4 * index, 4)
    return builder.bitcast(splat_ir(builder, word, i32x16), i8x64.ir)


def _dot_chunks16(
    builder: Any, sums: list[Any], chunk_of: Any, m: int, x: Any, span: Any, narrow: Sums16
) -> list[Any]:
    """Do the same with sums of 16 bits, widened as often as they need."""
    (first, count, bits), n = span, len(sums) // m
    for start in range(first, first + count, narrow.room):
        parts: list[Any] = [None] * len(sums)
        for chunk in range(start, min(start + narrow.room, first + count)):
            codes = [prepared(builder, chunk_of(i, chunk), bits) for i in range(m)]
            weights = [narrow.split(x) for x in codes]
            for j in range(n):
                word = _activations(builder, x, chunk * n + j)
                for i in range(m):
                    parts[i * n + j] = narrow.add(parts[i * n + j], weights[i], word)
        sums = [narrow.widen(a, b) for a, b in zip(sums, parts, strict=True)]
    return sums


@intrinsic(prefer_literal=True)
def dot_registers(typing_context, sums, codes, address, first, count, bits):
    """Add `count` chunks of one row block's `codes` (a tile of 8) times the codes at `address`."""
    span = (first.literal_value, count.literal_value, bits.literal_value)

    def codegen(context, builder, sig, args):
        chunks = _unpack(builder, args[1])
        result = _dot_chunks(
            builder, _unpack(builder, args[0]), lambda i, c: chunks[c], 1, args[2], span
        )
        return _pack(builder, sums, result)

    return sums(sums, codes, types.intp, *[types.literal(x) for x in span]), codegen


@intrinsic(prefer_literal=True)
def dot_memory(typing_context, sums, m, weights, stride, address, first, count, bits):
    """Add `count` chunks of `m` row blocks, bytes at weights + i * stride, times `address`."""
    blocks = m.literal_value
    span = (first.literal_value, count.literal_value, bits.literal_value)

    def codegen(context, builder, sig, args):
        base, step, x = args[2:5]

        def chunk_of(i: int, chunk: int) -> Any:
            at = builder.add(base, builder.mul(step, ir.Constant(step.type, i)))
            return _load(builder, at, i8x64.ir, 64 * chunk, 64)

        result = _dot_chunks(builder, _unpack(builder, args[0]), chunk_of, blocks, x, span)
        return _pack(builder, sums, result)

    literals = [types.literal(x) for x in span]
    return sums(sums, types.literal(blocks), *[types.intp] * 3, *literals), codegen


@intrinsic(prefer_literal=True)
def load_tile(typing_context, m, address, stride):
    """Load `m` (a literal) f32x16 that lie `stride` bytes apart."""
    kind = Tile(f32x16, m.literal_value)

    def codegen(context, builder, sig, args):
        vectors = []
        for i in range(kind.n):
            at = builder.add(args[1], builder.mul(args[2], ir.Constant(args[2].type, i)))
            vectors.append(_load(builder, at, f32x16.ir, 0, 4))
        return _pack(builder, kind, vectors)

    return kind(types.literal(kind.n), types.intp, types.intp), codegen


@intrinsic
def one(typing_context, vector):
    """Return the tile of one vector."""
    kind = Tile(vector, 1)

    def codegen(context, builder, sig, args):
        return _pack(builder, kind, [args[0]])

    return kind(vector), codegen


@intrinsic(prefer_literal=True)
def take(typing_context, tile, i):
    """Return vector `i` (a literal) of a tile."""
    index = i.literal_value

    def codegen(context, builder, sig, args):
        return builder.extract_value(args[0], index)

    return tile.vec(tile, types.literal(index)), codegen


@intrinsic
def add_scaled(typing_context, acc, sums, scales, address):
    """acc = fma(float(sums), scale * dx, acc), dx being the n floats at `address`."""
    n = acc.n // scales.n

    def codegen(context, builder, sig, args):
        a, s, d = (_unpack(builder, x) for x in args[:3])
        fma = declare(builder, "llvm.fma.v16f32", f32x16.ir, [f32x16.ir] * 3)
        for j in range(n):
            dx = splat_ir(builder, _load(builder, args[3], F32, 4 * j, 4), f32x16)
            for i in range(scales.n):
                value = builder.sitofp(s[i * n + j], f32x16.ir)
                a[i * n + j] = builder.call(fma, [value, builder.fmul(d[i], dx), a[i * n + j]])
        return _pack(builder, acc, a)

    return acc(acc, sums, scales, types.intp), codegen


@intrinsic
def add_outer(typing_context, acc, weights, address, stride):
    """acc[i, j] = fma(weights[i], x[j], acc[i, j]), x[j] the float at address + j * stride."""
    n = acc.n // weights.n

    def codegen(context, builder, sig, args):
        a, w = _unpack(builder, args[0]), _unpack(builder, args[1])
        fma = declare(builder, "llvm.fma.v16f32", f32x16.ir, [f32x16.ir] * 3)
        for j in range(n):
            at = builder.add(args[2], builder.mul(args[3], ir.Constant(args[3].type, j)))
            x = splat_ir(builder, _load(builder, at, F32, 0, 4), f32x16)
            for i in range(weights.n):
                a[i * n + j] = builder.call(fma, [w[i], x, a[i * n + j]])
        return _pack(builder, acc, a)

    return acc(acc, weights, types.intp, types.intp), codegen


@intrinsic
def store_tile(typing_context, tile, address):
    """Store the vectors of a tile one after the other."""

    def codegen(context, builder, sig, args):
        for i, vector in enumerate(_unpack(builder, args[0])):
            at = builder.add(args[1], ir.Constant(args[1].type, 64 * i))
            builder.store(vector, pointer(builder, at, tile.vec.ir)).align = 4
        return context.get_dummy_value()

    return types.void(tile, types.intp), codegen
