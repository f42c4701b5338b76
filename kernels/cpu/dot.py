"""The int8 dot product: one function for each machine level, chosen when a kernel is compiled.

`acc[i] += sum over j of u[4 i + j] * s[4 i + j]` for 16 rows i, with u unsigned and s signed 8-bit
codes, exact in int32. Apart from float16 conversion it is the only place where levels differ.
"""

from typing import Any

from llvmlite import ir

from jitllm.kernels import level as levels
from jitllm.kernels.simd import I32, declare, i8x64, i32x16


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
    fn = declare(builder, "llvm.x86.avx512.vpdpbusd.512", i32x16.ir, [i32x16.ir, i8x64.ir, i8x64.ir])
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


def _avx2(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    """Multiply to 16 bits and add pairs twice; u must be below 129 or the first sum saturates."""
    i16 = ir.IntType(16)
    a8, b16, b32 = ir.VectorType(I32, 8), ir.VectorType(i16, 16), ir.VectorType(ir.IntType(8), 32)
    pairs = declare(builder, "llvm.x86.avx2.pmadd.ub.sw", b16, [b32, b32])
    quads = declare(builder, "llvm.x86.avx2.pmadd.wd", a8, [b16, b16])
    halves = []
    for i in range(2):
        two = builder.call(pairs, [_part(builder, u, 32 * i, 32), _part(builder, s, 32 * i, 32)])
        halves.append(builder.call(quads, [two, ir.Constant(b16, [1] * 16)]))
    return builder.add(acc, _join(builder, halves))


def _neon(builder: Any, acc: Any, u: Any, s: Any) -> Any:
    """Signed by signed, 16 bytes at a time: u - 128 is taken, and 128 * s added back."""
    a4, b16 = ir.VectorType(I32, 4), ir.VectorType(ir.IntType(8), 16)
    fn = declare(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", a4, [a4, b16, b16])
    flip = ir.Constant(b16, [-128] * 16)
    quarters = []
    for i in range(4):
        a, x, y = _part(builder, acc, 4 * i, 4), _part(builder, u, 16 * i, 16), _part(builder, s, 16 * i, 16)
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


_DOT4 = {"avx512vnni": _avx512vnni, "avxvnni": _avxvnni, "avx2": _avx2, "neon": _neon, "plain": _plain}


def dot4_ir(builder: Any, acc: Any, u: Any, s: Any, bits: int) -> Any:
    """Emit the current level's dot product of IR values, u having codes of `bits` bits."""
    level = levels.current()
    dot = _DOT4[level.name]
    if bits < 8 or level.exact_u8_dot:
        return dot(builder, acc, u, s)
    low = builder.and_(u, ir.Constant(i8x64.ir, [127] * 64))
    high = builder.and_(u, ir.Constant(i8x64.ir, [-128] * 64))  # 128 itself still fits
    return dot(builder, dot(builder, acc, low, s), high, s)
