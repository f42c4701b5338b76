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


@intrinsic
def rotate(typing_context, word, n):
    """Return a word turned right by n bits; only the last five bits of n count."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(I32, [I32] * 3)
        turn = builder.module.declare_intrinsic("llvm.fshr", [I32], kind)
        return builder.call(turn, [args[0], args[0], args[1]])

    return types.int32(types.int32, types.int32), codegen


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
def mul_f16x2(typing_context, a, b):
    """Return a * b."""
    return types.int32(types.int32, types.int32), _two_halves(lambda b, x: b.fmul(*x))


def _both(i):
    """Return the code of a word that has number i of another twice."""
    order = ir.Constant(ir.VectorType(I32, 2), [i, i])
    return _two_halves(lambda b, x: b.shuffle_vector(x[0], x[0], order))


@intrinsic
def low_twice(typing_context, a):
    """Return the first number of a word, twice."""
    return types.int32(types.int32), _both(0)


@intrinsic
def high_twice(typing_context, a):
    """Return the second number of a word, twice."""
    return types.int32(types.int32), _both(1)


@intrinsic
def scaled_f16x2(typing_context, a, b, c):
    """Return a * b + c, rounded once where there is an instruction for it, else twice."""

    def multiply(builder, x):
        product = builder.fmul(x[0], x[1], flags=("contract",))
        return builder.fadd(product, x[2], flags=("contract",))

    return types.int32(*[types.int32] * 3), _two_halves(multiply)
