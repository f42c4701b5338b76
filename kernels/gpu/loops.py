"""Loops that are unrolled, and arrays that live in a thread's registers."""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import RefType, iternext_impl
from numba.core.types.common import SimpleIterableType, SimpleIteratorType
from numba.core.types.misc import CPointer
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from jitllm.kernels.gpu.text import ROLLED_MARK, UNROLL_MARK
from jitllm.kernels.simd import F32, I32, I64, declare


class _Steps(SimpleIterableType):
    """Numba type of `unroll(n)` and `rolled(n)`, whose loops have different marks."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        super().__init__(mark, _Step(mark))


class _Step(SimpleIteratorType):
    """Numba type of the iterator of these."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        super().__init__(f"{mark} step", types.int64)


@register_model(_Steps)
class _StepsModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Steps) -> None:
        super().__init__(dmm, fe_type, I64)


@register_model(_Step)
class _StepModel(models.StructModel):
    def __init__(self, dmm: Any, fe_type: _Step) -> None:
        members = [("next", CPointer(types.int64)), ("stop", types.int64)]
        super().__init__(dmm, fe_type, members)


def _steps(mark: str) -> Any:
    """Make f(n): what a `for` runs 0, 1, ... n - 1 over; its loop gets a mark."""

    @intrinsic
    def steps(typing_context, n):
        def codegen(context, builder, sig, args):
            return args[0]

        return _Steps(mark)(types.int64), codegen

    return steps


unroll, rolled = _steps(UNROLL_MARK), _steps(ROLLED_MARK)


@lower_builtin("getiter", _Steps)
def _begin(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    step = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    step.next = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
    step.stop = args[0]
    return step._getvalue()


@lower_builtin("iternext", _Step)
@iternext_impl(RefType.UNTRACKED)
def _advance(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    step = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    builder.call(declare(builder, sig.args[0].mark, ir.VoidType(), []), [])
    i = builder.load(step.next)
    result.set_valid(builder.icmp_signed("<", i, step.stop))
    result.yield_(i)
    builder.store(builder.add(i, ir.Constant(I64, 1)), step.next)


class Registers(types.Type):
    """Numba type of `n` numbers that a thread keeps in registers."""

    def __init__(self, kind: Any, base: Any, n: int) -> None:
        self.kind, self.ir = kind, ir.ArrayType(base, n)
        super().__init__(name=f"Registers({kind} x {n})")


@register_model(Registers)
class _RegistersModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Registers) -> None:
        super().__init__(dmm, fe_type, fe_type.ir.as_pointer())


def _registers(kind: Any, base: Any) -> Any:
    """Make f(n): n zeros that are read and written as `r[i]`, i a constant or from `unroll`."""

    @intrinsic(prefer_literal=True)
    def registers(typing_context, n):
        if not isinstance(n, types.IntegerLiteral):
            raise TypeError("registers: n must be a number or a variable of the factory")
        array = Registers(kind, base, n.literal_value)

        def codegen(context, builder, sig, args):
            with builder.goto_entry_block():
                place = builder.alloca(array.ir)
            builder.store(ir.Constant(array.ir, None), place)
            return place

        return array(n), codegen

    return registers


registers_f32, registers_i32 = _registers(types.float32, F32), _registers(types.int32, I32)


@infer_global(operator.getitem)
class _Get(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Registers) and isinstance(args[1], types.Integer):
            return signature(args[0].kind, args[0], types.int64)
        return None


@infer_global(operator.setitem)
class _Set(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Registers) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.int64, args[0].kind)
        return None


def _place(builder: Any, array: Any, i: Any) -> Any:
    return builder.gep(array, [ir.Constant(I64, 0), i])


@lower_builtin(operator.getitem, Registers, types.Integer)
def _load(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.load(_place(builder, *args))


@lower_builtin(operator.setitem, Registers, types.Integer, types.Any)
def _store(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    builder.store(args[2], _place(builder, *args[:2]))
    return context.get_dummy_value()
