"""The int8 dot product: one function for each machine level, chosen when a kernel is compiled.

`acc[i] += sum over j of u[4 i + j] * s[4 i + j]` for 16 rows i, with u unsigned and s signed 8-bit
codes, exact in int32. Apart from float16 conversion it is the only place where levels differ.

AVX2 has no such instruction: it multiplies to 16 bits, adding pairs. There products of several
chunks are added in 16 bits as long as they fit (`Sums16`), which halves the work.
"""

from typing import Any

from llvmlite import ir

from jitllm.kernels import level as levels
from jitllm.kernels.simd import I32, const, declare, i8x64, i16x32, i32x16

_A8, _B16 = ir.VectorType(I32, 8), ir.VectorType(ir.IntType(16), 16)
_B32 = ir.VectorType(ir.IntType(8), 32)


def _part(builder: Any, x: Any, start: int, n: int) -> Any:
    mask = ir.Constant(ir.VectorType(I32, n), list(range(start, start + n)))
    return builder.shuffle_vector(x, x, mask)


def _join(builder: Any, parts: list[Any]) -> Any:
    """Concatenate 2 or 4 vectors of equal length."""
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        mask = ir.Constant(ir.VectorType(I32, n), list(range(n)))
        parts = [builder.shuffle_vector(parts[i], parts[i + 1], mask)
                 for i in range(0, len(parts), 2)]  # fmt: skip
    return parts[0]


def _avx512vnni(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    fn = declare(
        builder, "llvm.x86.avx512.vpdpbusd.512", i32x16.ir, [i32x16.ir, i8x64.ir, i8x64.ir]
    )
    return builder.call(fn, [acc, u, s])


def _avxvnni(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    a8, b32 = ir.VectorType(I32, 8), ir.VectorType(ir.IntType(8), 32)
    fn = declare(builder, "llvm.x86.avx512.vpdpbusd.256", a8, [a8, b32, b32])
    halves = [
        builder.call(fn, [_part(builder, acc, 8 * i, 8), _part(builder, u, 32 * i, 32),
                          _part(builder, s, 32 * i, 32)])
        for i in range(2)
    ]  # fmt: skip
    return _join(builder, halves)


class Sums16:
    """Sums of a chunk's products in 16 bits, for AVX2: codes in fields of at most 6 bits.

    A pair of products of a field below 2^b is at most 2 * 127 * (2^b - 1), so `room` chunks fit.
    Codes of 7 and 8 bits are cut into two fields of 4.
    """

    def __init__(self, builder: Any, bits: int) -> None:
        self.builder = builder
        self.fields = ((0, 4), (4, 4)) if bits > 6 else ((0, bits),)
        self.room = 32767 // (2 * 127 * ((1 << self.fields[0][1]) - 1))

    def split(self, u: Any) -> list[Any]:
        """Return each field of the codes, in halves of 32 bytes."""
        if len(self.fields) == 1:
            return [_part(self.builder, u, 32 * i, 32) for i in range(2)]
        wide = self.builder.bitcast(u, i16x32.ir)
        high = self.builder.bitcast(self.builder.lshr(wide, const(i16x32, 4)), i8x64.ir)
        return [
            _part(self.builder, self.builder.and_(x, const(i8x64, 15)), 32 * i, 32)
            for x in (u, high)
            for i in range(2)
        ]

    def add(self, sums: list[Any] | None, fields: list[Any], s: Any) -> list[Any]:
        """Return `sums` plus the products of `split` codes with activations."""
        fn = declare(self.builder, "llvm.x86.avx2.pmadd.ub.sw", _B16, [_B32, _B32])
        halves = [_part(self.builder, s, 32 * i, 32) for i in range(2)]
        new = [self.builder.call(fn, [u, halves[i % 2]]) for i, u in enumerate(fields)]
        return [self.builder.add(a, b) for a, b in zip(sums, new, strict=True)] if sums else new

    def widen(self, acc: Any, sums: list[Any]) -> Any:
        """Return acc plus the sums in 32 bits."""
        fn = declare(self.builder, "llvm.x86.avx2.pmadd.wd", _A8, [_B16, _B16])
        for i, (start, _) in enumerate(self.fields):
            weight = ir.Constant(_B16, [1 << start] * 16)
            quads = [self.builder.call(fn, [x, weight]) for x in sums[2 * i : 2 * i + 2]]
            acc = self.builder.add(acc, _join(self.builder, quads))
        return acc


def _avx2(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    sums = Sums16(builder, 8)
    return sums.widen(acc, sums.add(None, sums.split(u), s))


def _neon(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    """Signed by signed, 16 bytes at a time: u - 128 is taken, and 128 * s added back."""
    a4, b16 = ir.VectorType(I32, 4), ir.VectorType(ir.IntType(8), 16)
    fn = declare(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", a4, [a4, b16, b16])
    flip = ir.Constant(b16, [-128] * 16)
    quarters = []
    for i in range(4):
        a, x, y = (
            _part(builder, acc, 4 * i, 4),
            _part(builder, u, 16 * i, 16),
            _part(builder, s, 16 * i, 16),
        )
        a = builder.call(fn, [a, builder.xor(x, flip), y])
        low = builder.call(fn, [ir.Constant(a4, [0] * 4), ir.Constant(b16, [1] * 16), y])
        quarters.append(builder.add(a, builder.shl(low, ir.Constant(a4, [7] * 4))))
    return _join(builder, quarters)


def _plain(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    wide = ir.VectorType(I32, 64)
    products = builder.mul(builder.zext(u, wide), builder.sext(s, wide))
    for j in range(4):
        mask = ir.Constant(ir.VectorType(I32, 16), list(range(j, 64, 4)))
        acc = builder.add(acc, builder.shuffle_vector(products, products, mask))
    return acc


_DOT4 = {
    "avx512vnni": _avx512vnni,
    "avxvnni": _avxvnni,
    "avx2": _avx2,
    "neon": _neon,
    "plain": _plain,
}


def dot4_ir(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    """Emit the current level's dot product of IR values."""
    return _DOT4[levels.current().name](builder, acc, u, s)


def sums16(builder: Any, bits: int) -> Sums16 | None:
    """Return the 16-bit sums for codes of `bits` bits at the level that needs them, else None."""
    return Sums16(builder, bits) if levels.current().name == "avx2" else None
