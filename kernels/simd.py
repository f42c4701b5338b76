"""SIMD vocabulary: LLVM vectors as Numba types, so that kernels stay Python functions.

A `Vec` is a machine vector of 16 floats, 16 int32 or 64 bytes; LLVM splits it where registers are
narrower, so the same kernel runs at every level and, having the same operations in the same order,
gives the same bits. A `Tile` is a short row of vectors kept in registers; operations on it unroll.

Vectors know `+ - * /`, `& | ^`, and comparison through `where_*`; floating point is never
re-associated: write `fma` where a fused multiply-add is meant. Addresses are plain integers.
"""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

_BASES = {
    "i8": ir.IntType(8), "i16": ir.IntType(16), "i32": ir.IntType(32), "i64": ir.IntType(64),
    "f16": ir.HalfType(), "f32": ir.FloatType(),
}  # fmt: skip
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F32 = ir.FloatType()


class Vec(types.Type):
    """Numba type of a vector of `n` elements of `base` (i8, i16, i32, f32)."""

    def __init__(self, base: str, n: int) -> None:
        self.base, self.n = base, n
        self.ir = ir.VectorType(_BASES[base], n)
        super().__init__(name=f"Vec({base}x{n})")

    @property
    def is_float(self) -> bool:
        return self.base == "f32"


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec) -> None:
        super().__init__(dmm, fe_type, fe_type.ir)


class Tile(types.Type):
    """Numba type of `n` vectors of type `vec`, held in registers."""

    def __init__(self, vec: Vec, n: int) -> None:
        self.vec, self.n = vec, n
        super().__init__(name=f"Tile({vec.name} x {n})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Tile) -> None:
        super().__init__(dmm, fe_type, ir.ArrayType(fe_type.vec.ir, fe_type.n))


f32x16 = Vec("f32", 16)
i32x16 = Vec("i32", 16)
i16x32 = Vec("i16", 32)
i8x64 = Vec("i8", 64)
i8x16 = Vec("i8", 16)


def const(vec: Vec, value: float) -> ir.Constant:
    """Return the IR constant with every element equal to `value`."""
    return ir.Constant(vec.ir, [value] * vec.n)


def pointer(builder: Any, address: Any, to: ir.Type) -> Any:
    """Return `address` as an IR pointer to `to`."""
    return builder.inttoptr(address, to.as_pointer())


def declare(builder: Any, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """Return the LLVM intrinsic or function `name`, declared in the builder's module."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def splat_ir(builder: Any, value: Any, vec: Vec) -> Any:
    """Return a vector with every element equal to the scalar IR `value`."""
    one = builder.insert_element(ir.Constant(vec.ir, ir.Undefined), value, ir.Constant(I32, 0))
    mask = ir.Constant(ir.VectorType(I32, vec.n), [0] * vec.n)
    return builder.shuffle_vector(one, ir.Constant(vec.ir, ir.Undefined), mask)


# --- arithmetic operators on vectors ---------------------------------------------------------

_FLOAT_OPS = {
    operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv",
}  # fmt: skip
_INT_OPS = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul",
    operator.and_: "and_", operator.or_: "or_", operator.xor: "xor",
}  # fmt: skip


def _register(op: Any) -> None:
    class Template(AbstractTemplate):
        key = op

        def generic(self, args: Any, kws: Any) -> Any:
            a, b = args
            table = _FLOAT_OPS if isinstance(a, Vec) and a.is_float else _INT_OPS
            if isinstance(a, Vec) and a == b and op in table:
                return signature(a, a, a)
            return None

    infer_global(op)(Template)

    @lower_builtin(op, Vec, Vec)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table = _FLOAT_OPS if sig.args[0].is_float else _INT_OPS
        return getattr(builder, table[op])(*args)


for _op in {*_FLOAT_OPS, *_INT_OPS}:
    _register(_op)


# --- memory ----------------------------------------------------------------------------------


def _loader(vec: Vec, align: int) -> Any:
    @intrinsic
    def load(typing_context, address):
        def codegen(context, builder, sig, args):
            value = builder.load(pointer(builder, args[0], vec.ir))
            value.align = align
            return value

        return vec(types.intp), codegen

    return load


def _storer(vec: Vec, align: int) -> Any:
    @intrinsic
    def store(typing_context, address, value):
        def codegen(context, builder, sig, args):
            instruction = builder.store(args[1], pointer(builder, args[0], vec.ir))
            instruction.align = align
            return context.get_dummy_value()

        return types.void(types.intp, vec), codegen

    return store


load_f32x16, store_f32x16 = _loader(f32x16, 4), _storer(f32x16, 4)
load_i32x16, store_i32x16 = _loader(i32x16, 4), _storer(i32x16, 4)
load_i8x64, store_i8x64 = _loader(i8x64, 1), _storer(i8x64, 1)
load_i8x16, store_i8x16 = _loader(i8x16, 1), _storer(i8x16, 1)


def _scalar(kind: types.Type, base: ir.Type, align: int) -> tuple[Any, Any]:
    @intrinsic
    def load(typing_context, address):
        def codegen(context, builder, sig, args):
            value = builder.load(pointer(builder, args[0], base))
            value.align = align
            return value

        return kind(types.intp), codegen

    @intrinsic
    def store(typing_context, address, value):
        def codegen(context, builder, sig, args):
            value = context.cast(builder, args[1], sig.args[1], kind)
            instruction = builder.store(value, pointer(builder, args[0], base))
            instruction.align = align
            return context.get_dummy_value()

        return types.void(types.intp, value), codegen

    return load, store


load_f32, store_f32 = _scalar(types.float32, F32, 4)
load_f64, store_f64 = _scalar(types.float64, ir.DoubleType(), 8)
load_i64, store_i64 = _scalar(types.int64, I64, 8)
load_i32, store_i32 = _scalar(types.int32, I32, 4)
load_u16, store_u16 = _scalar(types.uint16, ir.IntType(16), 1)
load_i8, store_i8 = _scalar(types.int8, ir.IntType(8), 1)
load_u8, store_u8 = _scalar(types.uint8, ir.IntType(8), 1)


@intrinsic(prefer_literal=True)
def stack_bytes(typing_context, n):
    """Return the 64-byte aligned address of `n` (a literal) bytes of this call's stack frame."""
    size = n.literal_value

    def codegen(context, builder, sig, args):
        with builder.goto_entry_block():
            slot = builder.alloca(ir.ArrayType(ir.IntType(8), size))
            slot.align = 64
        return builder.ptrtoint(slot, I64)

    return types.intp(types.literal(size)), codegen


# --- constants, broadcasts, conversion -------------------------------------------------------


def _splatter(vec: Vec, kind: types.Type) -> Any:
    @intrinsic
    def splat(typing_context, value):
        def codegen(context, builder, sig, args):
            return splat_ir(builder, context.cast(builder, args[0], sig.args[0], kind), vec)

        return vec(value), codegen

    return splat


splat_f32 = _splatter(f32x16, types.float32)
splat_i32 = _splatter(i32x16, types.int32)
splat_i8 = _splatter(i8x64, types.int8)


@intrinsic
def broadcast4(typing_context, address):
    """Load 4 bytes and repeat them 16 times (i8x64): one chunk of 4 activations for all rows."""

    def codegen(context, builder, sig, args):
        value = builder.load(pointer(builder, args[0], I32))
        value.align = 1
        return builder.bitcast(splat_ir(builder, value, i32x16), i8x64.ir)

    return i8x64(types.intp), codegen


def _converter(instruction: str, source: Any, target: Any, base: ir.Type) -> Any:
    """Make f(x): the LLVM conversion `instruction` from Numba type `source` to `target`."""

    @intrinsic
    def convert(typing_context, x):
        def codegen(context, builder, sig, args):
            return getattr(builder, instruction)(args[0], base)

        return target(source), codegen

    return convert


to_f32 = _converter("sitofp", i32x16, f32x16, f32x16.ir)
widen_u8 = _converter("zext", i8x16, i32x16, i32x16.ir)  # bytes taken as unsigned
widen_i8 = _converter("sext", i8x16, i32x16, i32x16.ir)  # bytes taken as signed
narrow_i8 = _converter("trunc", i32x16, i8x16, i8x16.ir)  # keeps the low 8 bits
bits_f32 = _converter("bitcast", i32x16, f32x16, f32x16.ir)
bits_i32 = _converter("bitcast", f32x16, i32x16, i32x16.ir)
word_as_f32 = _converter("bitcast", types.int32, types.float32, F32)


def _shifter(name: str) -> Any:
    @intrinsic
    def shift(typing_context, x, bits):
        def codegen(context, builder, sig, args):
            amount = context.cast(builder, args[1], sig.args[1], types.int32)
            return getattr(builder, name)(args[0], splat_ir(builder, amount, i32x16))

        return i32x16(i32x16, bits), codegen

    return shift


shift_left = _shifter("shl")
shift_right = _shifter("ashr")  # keeps the sign
shift_right_logical = _shifter("lshr")


def _byte_shifter(name: str) -> Any:
    @intrinsic
    def shift(typing_context, x, bits):
        def codegen(context, builder, sig, args):
            wide = builder.bitcast(args[0], i16x32.ir)
            amount = context.cast(builder, args[1], sig.args[1], types.int16)
            wide = getattr(builder, name)(wide, splat_ir(builder, amount, i16x32))
            return builder.bitcast(wide, i8x64.ir)

        return i8x64(i8x64, bits), codegen

    return shift


# 16 bits wide, as machines have no 8-bit shift: mask off what crosses over from the other byte.
shift_bytes_left = _byte_shifter("shl")
shift_bytes_right = _byte_shifter("lshr")


# --- floating point --------------------------------------------------------------------------


@intrinsic
def fma(typing_context, a, b, c):
    """Return a * b + c rounded once; f32x16 or float32."""
    kind = a if isinstance(a, Vec) else types.float32

    def codegen(context, builder, sig, args):
        base, name = (
            (kind.ir, "llvm.fma.v16f32") if isinstance(kind, Vec) else (F32, "llvm.fma.f32")
        )
        return builder.call(declare(builder, name, base, [base] * 3), args)

    return kind(kind, kind, kind), codegen


def _unary(name: str) -> Any:
    @intrinsic
    def op(typing_context, x):
        def codegen(context, builder, sig, args):
            return builder.call(
                declare(builder, f"llvm.{name}.v16f32", f32x16.ir, [f32x16.ir]), args
            )

        return f32x16(f32x16), codegen

    return op


sqrt, fabs = _unary("sqrt"), _unary("fabs")


def _select(comparison: str) -> Any:
    """Make where_*(a, b, x, y): x where the ordered comparison of a and b holds, else y."""

    @intrinsic
    def where(typing_context, a, b, x, y):
        def codegen(context, builder, sig, args):
            if sig.args[0].is_float:
                mask = builder.fcmp_ordered(comparison, args[0], args[1])
            else:
                mask = builder.icmp_signed(comparison, args[0], args[1])
            return builder.select(mask, args[2], args[3])

        return x(a, a, x, x), codegen

    return where


where_gt, where_lt, where_ge, where_eq = (_select(c) for c in (">", "<", ">=", "=="))


@intrinsic
def vmax(typing_context, a, b):
    """Return the element-wise maximum; the second operand where either is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return f32x16(f32x16, f32x16), codegen


@intrinsic
def vmin(typing_context, a, b):
    """Return the element-wise minimum; the second operand where either is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return f32x16(f32x16, f32x16), codegen


def _halves(builder: Any, x: Any, vec: Vec, n: int) -> tuple[Any, Any]:
    """Return x and x with its first n elements' upper half moved down."""
    mask = ir.Constant(ir.VectorType(I32, vec.n), [(i + n // 2) % vec.n for i in range(vec.n)])
    return x, builder.shuffle_vector(x, x, mask)


def _reducer(vec: Vec, kind: types.Type, combine: Any) -> Any:
    """Reduce in a fixed pairwise tree, so that every level adds in the same order."""

    @intrinsic
    def reduce(typing_context, x):
        def codegen(context, builder, sig, args):
            x, n = args[0], vec.n
            while n > 1:
                x = combine(builder, *_halves(builder, x, vec, n))
                n //= 2
            return builder.extract_element(x, ir.Constant(I32, 0))

        return kind(vec), codegen

    return reduce


def _max_ir(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


reduce_add = _reducer(f32x16, types.float32, lambda builder, a, b: builder.fadd(a, b))
reduce_max = _reducer(f32x16, types.float32, _max_ir)
reduce_max_i32 = _reducer(i32x16, types.int32, lambda builder, a, b: builder.select(
    builder.icmp_signed(">", a, b), a, b))  # fmt: skip
reduce_add_i32 = _reducer(i32x16, types.int32, lambda builder, a, b: builder.add(a, b))
