"""The int8 dot product: one function for each machine level, chosen when a kernel is compiled.

`acc[i] += sum over j of u[4 i + j] * s[4 i + j]` for 16 rows i, with u unsigned and s signed 8-bit
codes, exact in int32. Apart from float16 conversion it is the only place where levels differ.

Levels with `signed_dot` want both operands signed: codes of less than 8 bits are that anyway, and
those of 8 bits are taken minus 128 (`prepared`).

AVX2 has no such instruction: it multiplies to 16 bits, adding pairs. There products of several
chunks are added in 16 bits as long as they fit (`Sums16`), which halves the work.
"""

from typing import Any

from llvmlite import ir

from jitllm.kernels import level as levels
from jitllm.kernels.simd import I32, const, declare, i8x64, i32x16

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
    """Sums of products in 16 bits, for AVX2, of which two are added by the multiplication itself.

    Two products of codes below 2^b are at most 2 * 127 * (2^b - 1), so `room` chunks fit. Codes of
    8 bits are signed: their size is multiplied, and the activation gets their sign.
    """

    def __init__(self, builder: Any, bits: int) -> None:
        self.builder, self.signed = builder, bits == 8
        self.room = 1 if self.signed else 32767 // (2 * 127 * ((1 << bits) - 1))

    def split(self, codes: Any) -> list[tuple[Any, Any]]:
        """Return (size, signed code) of each half of 32 codes."""
        halves = [_part(self.builder, codes, 32 * i, 32) for i in range(2)]
        fn = declare(self.builder, "llvm.abs.v32i8", _B32, [_B32, ir.IntType(1)])
        wraps = ir.Constant(ir.IntType(1), 0)  # -128 becomes 128, unsigned
        return [(self.builder.call(fn, [x, wraps]) if self.signed else x, x) for x in halves]

    def add(self, sums: list[Any] | None, weights: list[tuple[Any, Any]], s: Any) -> list[Any]:
        """Return `sums` plus the products of `split` codes with activations."""
        multiply = declare(self.builder, "llvm.x86.avx2.pmadd.ub.sw", _B16, [_B32, _B32])
        sign = declare(self.builder, "llvm.x86.avx2.psign.b", _B32, [_B32, _B32])
        new = []
        for i, (size, code) in enumerate(weights):
            x = _part(self.builder, s, 32 * i, 32)
            x = self.builder.call(sign, [x, code]) if self.signed else x
            new.append(self.builder.call(multiply, [size, x]))
        return [self.builder.add(a, b) for a, b in zip(sums, new, strict=True)] if sums else new

    def widen(self, acc: Any, sums: list[Any]) -> Any:
        """Return acc plus the sums in 32 bits."""
        fn = declare(self.builder, "llvm.x86.avx2.pmadd.wd", _A8, [_B16, _B16])
        quads = [self.builder.call(fn, [x, ir.Constant(_B16, [1] * 16)]) for x in sums]
        return self.builder.add(acc, _join(self.builder, quads))


def _neon(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    a4, b16 = ir.VectorType(I32, 4), ir.VectorType(ir.IntType(8), 16)
    fn = declare(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", a4, [a4, b16, b16])
    quarters = [
        builder.call(fn, [_part(builder, acc, 4 * i, 4), _part(builder, u, 16 * i, 16),
                          _part(builder, s, 16 * i, 16)])
        for i in range(4)
    ]  # fmt: skip
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
    "neon": _neon,
    "plain": _plain,
}


def prepared(builder: Any, codes: Any, bits: int) -> Any:
    """Return codes of `bits` bits as the current level's dot product takes them."""
    if bits == 8 and levels.current().signed_dot:
        return builder.xor(codes, const(i8x64, -128))
    return codes


def dot4_ir(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    """Emit the current level's dot product of IR values, u being `prepared`."""
    return _DOT4[levels.current().name](builder, acc, u, s)


def sums16(builder: Any, bits: int) -> Sums16 | None:
    """Return the 16-bit sums for codes of `bits` bits at the level that needs them, else None."""
    return Sums16(builder, bits) if levels.current().name == "avx2" else None
