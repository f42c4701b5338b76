"""Instructions on words: pairs of float16 numbers, and numbers of 32 bits."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.simd import I32, I64

_PAIR = ir.VectorType(ir.HalfType(), 2)


@intrinsic
def least_u32(typing_context, a, b):
    """Return the lesser of two numbers from 0 to 2^32 - 1, which takes less than on int64."""

    def codegen(context, builder, sig, args):
        a, b = (builder.trunc(x, I32) for x in args)
        least = builder.select(builder.icmp_unsigned("<", a, b), a, b)
        return builder.zext(least, I64)

    return types.int64(types.int64, types.int64), codegen


def _two_halves(operation: Any) -> Any:
    """Return the code of an operation on words of two float16 numbers."""

    def codegen(context, builder, sig, args):
        result = operation(builder, [builder.bitcast(x, _PAIR) for x in args])
        return builder.bitcast(result, I32)

    return codegen


@intrinsic
def sub_f16x2(typing_context, a, b):
    """Return a - b."""
    return types.int32(types.int32, types.int32), _two_halves(lambda b, x: b.fsub(*x))


@intrinsic
def scaled_f16x2(typing_context, a, b, c):
    """Return a * b + c, rounded once where there is an instruction for it, else twice."""

    def multiply(builder, x):
        product = builder.fmul(x[0], x[1], flags=("contract",))
        return builder.fadd(product, x[2], flags=("contract",))

    return types.int32(*[types.int32] * 3), _two_halves(multiply)
