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
    """Return f(word): the entries, signed bytes, of four codes, one a byte.

    A tree of choices by the bits of the codes, on four bytes at once.
    """

    @intrinsic
    def entries(typing_context, word):
        def codegen(context, builder, sig, args):
            level, bit = [_constant(entry) for entry in table], 0
            while len(level) > 1:
                one = builder.lshr(args[0], ir.Constant(I32, bit))
                one = builder.and_(one, ir.Constant(I32, LANES))
                mask, bit = builder.mul(one, ir.Constant(I32, 255)), bit + 1
                level = [_choose(builder, mask, level[i : i + 2]) for i in range(0, len(level), 2)]
            return level[0]

        return types.int32(types.int32), codegen

    return entries


def _choose(builder: Any, mask: Any, choices: list[Any]) -> Any:
    """Return the first where the mask is clear, the last where it is set."""
    a, b = choices[0], choices[-1]
    return builder.xor(a, builder.and_(mask, builder.xor(a, b)))
