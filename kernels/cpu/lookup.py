"""Bytes from a table of up to 16: one function for each kind of machine."""

from typing import Any

from llvmlite import ir

from jitllm.kernels import level as levels
from jitllm.kernels.simd import I32, const, declare, i8x64


def _halves(builder: Any, x: Any, n: int, intrinsic: Any) -> Any:
    """Apply `intrinsic` to parts of n bytes and join the results."""
    parts = []
    for start in range(0, i8x64.n, n):
        mask = ir.Constant(ir.VectorType(I32, n), list(range(start, start + n)))
        parts.append(intrinsic(builder.shuffle_vector(x, x, mask)))
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        mask = ir.Constant(ir.VectorType(I32, n), list(range(n)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(a, b, mask) for a, b in pairs]
    return parts[0]


def _shuffle(builder: Any, name: str, codes: Any, entries: list[int]) -> Any:
    """Use a byte shuffle `name`(table, indices), which works on 16 bytes at a time."""
    kind = codes.type
    table = ir.Constant(kind, entries * (kind.count // 16))
    return builder.call(declare(builder, name, kind, [kind, kind]), [table, codes])


def _select(builder: Any, codes: Any, entries: list[int]) -> Any:
    result = const(i8x64, entries[0])
    for code, entry in enumerate(entries[1:], 1):
        hit = builder.icmp_unsigned("==", codes, const(i8x64, code))
        result = builder.select(hit, const(i8x64, entry), result)
    return result


def lookup(builder: Any, codes: Any, table: list[int]) -> Any:
    """Return table[code] (entries from 0 to 255) for i8x64 codes below 16."""
    entries = [(x + 128) % 256 - 128 for x in table] + [0] * (16 - len(table))
    name = levels.current().name
    if name == "avx512vnni":
        return _shuffle(builder, "llvm.x86.avx512.pshuf.b.512", codes, entries)
    if name in ("avxvnni", "avx2"):
        return _halves(
            builder, codes, 32,
            lambda x: _shuffle(builder, "llvm.x86.avx2.pshuf.b", x, entries),
        )  # fmt: skip
    if name == "neon":
        fn = "llvm.aarch64.neon.tbl1.v16i8"
        return _halves(builder, codes, 16, lambda x: _shuffle(builder, fn, x, entries))
    return _select(builder, codes, entries)
