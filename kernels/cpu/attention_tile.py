"""The two products of attention on one page: scores of 64 keys, and the weighted sum of values.

Each works on a block of query rows that share the keys, so that a loaded key or value is used by
all of them from registers. The block's shape changes no bits: a score is a sum over ascending
columns, an output a sum over ascending positions, each one chain of fma.
"""

from functools import cache

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels import formats
from jitllm.kernels import level as levels
from jitllm.kernels.atomics import prefetch
from jitllm.kernels.cache_types import PAGE_TOKENS, QUANTIZED
from jitllm.kernels.cpu.half import load_bfloat, load_bfloat_part, load_half, load_half_part
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.tile import add_outer, zeros
from jitllm.kernels.cpu.vmath import load_part
from jitllm.kernels.simd import Tile, f32x16, load_f32x16, pointer

# (rows, vectors) of accumulators that the level's registers hold beside the operands. Measured:
# AVX-512 with 6 rows gains 2 % on prompts and loses 25 % where few rows share a key; AVX2 with 3
# rows spills to a third of the speed. NEON and plain are chosen by counting registers.
BLOCK_ROWS, BLOCK_VECTORS = {"avx512vnni": (4, 4), "plain": (2, 1)}.get(
    levels.current().name, (2, 2)
)


def _pack(builder, vectors):
    tile = ir.Constant(ir.ArrayType(f32x16.ir, len(vectors)), ir.Undefined)
    for i, vector in enumerate(vectors):
        tile = builder.insert_value(tile, vector, i)
    return tile


@intrinsic
def single(typing_context, a):
    """Return the tile of one vector."""

    def codegen(context, builder, sig, args):
        return _pack(builder, args)

    return Tile(f32x16, 1)(f32x16), codegen


@intrinsic
def pair(typing_context, a, b):
    """Return the tile of two vectors."""

    def codegen(context, builder, sig, args):
        return _pack(builder, args)

    return Tile(f32x16, 2)(f32x16, f32x16), codegen


@intrinsic
def quad(typing_context, a, b, c, d):
    """Return the tile of four vectors."""

    def codegen(context, builder, sig, args):
        return _pack(builder, args)

    return Tile(f32x16, 4)(f32x16, f32x16, f32x16, f32x16), codegen


def _at(builder, args, row, vector):
    """Return the pointer to vector `vector` of row `row` of a block at args = (address, stride)."""
    offset = builder.mul(args[1], ir.Constant(args[1].type, row))
    offset = builder.add(offset, ir.Constant(args[1].type, 64 * vector))
    return pointer(builder, builder.add(args[0], offset), f32x16.ir)


@intrinsic(prefer_literal=True)
def load_block(typing_context, rows, vectors, address, stride):
    """Load `rows` times `vectors` (literals) f32x16; rows lie `stride` bytes apart."""
    n, m = rows.literal_value, vectors.literal_value
    kind = Tile(f32x16, n * m)

    def codegen(context, builder, sig, args):
        vectors = []
        for i in range(m):
            for j in range(n):
                vector = builder.load(_at(builder, args[2:], j, i))
                vector.align = 4
                vectors.append(vector)
        return _pack(builder, vectors)

    return kind(types.literal(n), types.literal(m), types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def store_block(typing_context, rows, tile, address, stride):
    """Store a tile of `rows` (a literal) rows; rows lie `stride` bytes apart."""
    n = rows.literal_value
    m = tile.n // n

    def codegen(context, builder, sig, args):
        for i in range(m):
            for j in range(n):
                vector = builder.extract_value(args[1], i * n + j)
                builder.store(vector, _at(builder, args[2:], j, i)).align = 4
        return context.get_dummy_value()

    return types.void(types.literal(n), tile, types.intp, types.intp), codegen


_LOADERS = {
    "f16": (2, load_half, load_half_part),
    "bf16": (2, load_bfloat, load_bfloat_part),
    "f32": (4, load_f32x16, load_part),
}
_UNPACKED = dict.fromkeys(QUANTIZED, _LOADERS["f32"])  # quantized pages are unpacked before


def _loaders(kv):
    """Return the bytes of a number of type `kv`, load(address) and load_part(address, n)."""
    loaders = _LOADERS | _UNPACKED
    if kv not in loaders:
        raise ValueError(f"kv must be one of {sorted(loaders)}, got {kv!r}")
    return loaders[kv]


def cell_bytes(kv):
    """Return the bytes of a cached number of type `kv` where it is read; float32 if unpacked."""
    return _loaders(kv)[0]


def vector_loader(kv):
    """Return load(address) -> f32x16 from 16 numbers of type `kv`."""
    return _loaders(kv)[1]


@cache
def tile_loader(kv, vectors):
    """Return load(address) -> tile of `vectors` vectors of type `kv`."""
    load, step = vector_loader(kv), 16 * cell_bytes(kv)

    @inline
    def load1(at):
        return single(load(at))

    @inline
    def load2(at):
        return pair(load(at), load(at + step))

    @inline
    def load4(at):
        return quad(load(at), load(at + step), load(at + 2 * step), load(at + 3 * step))

    return {1: load1, 2: load2, 4: load4}[vectors]


@cache
def part_loader(kv):
    """Return load(address, n) -> tile of one vector, the first `n` lanes loaded."""
    load = _loaders(kv)[2]

    @inline
    def load_one(at, n):
        return single(load(at, n))

    return load_one


def _fetches(kv):
    """Return lines to fetch per BLOCK_VECTORS vectors of type `kv`, and bytes to go on by."""
    if kv in QUANTIZED:
        fmt = formats.get(kv.upper())
        step = 16 * BLOCK_VECTORS * fmt.block_bytes // fmt.block_size
        return -(-step // 64), step  # a line that is left out costs as much as all that are not
    lines = cell_bytes(kv) * BLOCK_VECTORS // 4
    return lines, 64 * lines


@cache
def scores(kv, rows):
    """Make scores(q, q_stride, k, dk, s, ahead): s[row][key] = sum of q[row][.] k[.][key].

    `rows` rows of q lie q_stride bytes apart, rows of s 64 floats; k is [dk][64]. As many bytes as
    k has in the cache are fetched from `ahead`, where a later step reads: a page is too short a
    stream for the machine to foresee its end.
    """
    load, vectors = tile_loader(kv, BLOCK_VECTORS), BLOCK_VECTORS
    size = cell_bytes(kv)
    n = rows * vectors
    lines, step = _fetches(kv)

    @inline
    def block(q, q_stride, k, dk, s, ahead):
        for c in range(0, PAGE_TOKENS, 16 * vectors):
            acc = zeros(n)
            at = k + size * c
            for d in range(dk):
                for line in range(lines):
                    prefetch(ahead + 64 * line)
                ahead += step
                acc = add_outer(acc, load(at), q + 4 * d, q_stride)
                at += size * PAGE_TOKENS
            store_block(rows, acc, s + 4 * c, 4 * PAGE_TOKENS)

    return block


@cache
def weigh(kv, rows):
    """Make weigh(p, v, dv, first, end, acc, stride): acc[row] += sum of p[row][pos] v[pos].

    Positions ascend from `first` to `end`, cells outside are not touched. Rows of p lie 64 floats
    apart, rows of acc (padded to whole vectors) `stride` bytes; v is [64][dv].
    """
    load, load_last = tile_loader(kv, BLOCK_VECTORS), part_loader(kv)
    vectors, size = BLOCK_VECTORS, cell_bytes(kv)
    lines, step = _fetches(kv)

    @inline
    def block(p, v, dv, first, end, acc, stride, ahead):
        c = 0
        while c + 16 * vectors <= dv:
            total = load_block(rows, vectors, acc + 4 * c, stride)
            at = v + size * (first * dv + c)
            for i in range(first, end):
                for line in range(lines):
                    prefetch(ahead + 64 * line)
                ahead += step
                total = add_outer(total, load(at), p + 4 * i, 4 * PAGE_TOKENS)
                at += size * dv
            store_block(rows, total, acc + 4 * c, stride)
            c += 16 * vectors
        while c < dv:
            last = load_block(rows, 1, acc + 4 * c, stride)
            at = v + size * (first * dv + c)
            for i in range(first, end):
                last = add_outer(last, load_last(at, dv - c), p + 4 * i, 4 * PAGE_TOKENS)
                at += size * dv
            store_block(rows, last, acc + 4 * c, stride)
            c += 16

    return block
