"""What codes stand for: four entries of a table at once."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.simd import I32

LANES = 0x01010101


def _constant(byte: int) -> ir.Constant:
    word = (byte & 255) * LANES
    return ir.Constant(I32, word - (word >> 31 << 32))


def lookup(table: tuple[int, ...]) -> Any:
    """Return f(codes, i): entries, signed bytes, of the codes in bits 4 i and on of each byte.

    A tree of choices by the bits of the codes, on four bytes at once.
    """

    @intrinsic
    def entries(typing_context, codes, i):
        def codegen(context, builder, sig, args):
            level, bit = [_constant(entry) for entry in table], 0
            codes = builder.lshr(args[0], builder.mul(builder.trunc(args[1], I32), _number(4)))
            while len(level) > 1:
                one = builder.and_(builder.lshr(codes, _number(bit)), _number(LANES))
                mask, bit = builder.mul(one, _number(255)), bit + 1
                level = [_choose(builder, mask, level[i : i + 2]) for i in range(0, len(level), 2)]
            return level[0]

        return types.int32(types.int32, types.int64), codegen

    return entries


def _number(value: int) -> ir.Constant:
    return ir.Constant(I32, value)


def _choose(builder: Any, mask: Any, choices: list[Any]) -> Any:
    """Return the first where the mask is clear, the last where it is set."""
    a, b = choices[0], choices[-1]
    return builder.xor(a, builder.and_(mask, builder.xor(a, b)))
