"""Memory for GPU kernels: the device's and the workgroup's (shared).

Addresses are int64 numbers; those of shared memory are no addresses of the device. Integers are
widened to int64 when loaded, except those of `load_i32` and of vectors: int32, as packed words are
passed on as they are. Vectors are tuples and lie at multiples of their size.
"""

import re
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from jitllm.kernels.simd import F32, I32, I64, declare

GLOBAL, SHARED = 1, 3  # LLVM's address spaces
SHARED_NAME = "jit_shared"  # how the names of shared arrays begin
ACCESS_NAME = "jit_at"  # and those of addresses: then come the file and the line
_I8, _I16, _F16 = ir.IntType(8), ir.IntType(16), ir.HalfType()


def _widen(builder: Any, value: Any, how: str) -> Any:
    if how == "bf16":
        bits = builder.shl(builder.zext(value, I32), ir.Constant(I32, 16))
        return builder.bitcast(bits, F32)
    if how == "f16":
        return builder.fpext(value, F32)
    return getattr(builder, how)(value, I64) if how else value


def _narrow(builder: Any, value: Any, base: Any, how: str) -> Any:
    """Round a float32 to 16 bits, to nearest even; keep the low bits of an integer."""
    if how == "f16":
        return builder.fptrunc(value, _F16)
    if how != "bf16":
        return builder.trunc(value, base) if how else value
    bits = builder.bitcast(value, I32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(I32, 0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", value, value)
    bits = builder.select(is_nan, ir.Constant(I32, 0x7FC00000), rounded)
    return builder.trunc(builder.lshr(bits, ir.Constant(I32, 16)), _I16)


def _at(builder: Any, address: Any, base: Any, space: int, loc: Any) -> Any:
    return builder.inttoptr(address, ir.PointerType(base, space), name=_name(loc))


def _name(loc: Any) -> str:
    """Return how the value is called by which the IR says where in the source an access is."""
    return f"{ACCESS_NAME}.{re.sub(r'[^a-z0-9_]', '_', Path(loc.filename).stem)}.{loc.line}."


def _loader(base: Any, kind: Any, how: str = "", *, align: int, space: int = GLOBAL) -> Any:
    """Make load(address) -> kind; `how` converts from `base`."""

    @intrinsic
    def load(typing_context, address):
        def codegen(context, builder, sig, args, loc=None):
            value = builder.load(_at(builder, args[0], base, space, loc))
            value.align = align
            return _widen(builder, value, how)

        return kind(types.intp), codegen

    return load


def _storer(base: Any, kind: Any, how: str = "", *, align: int, space: int = GLOBAL) -> Any:
    @intrinsic
    def store(typing_context, address, value):
        def codegen(context, builder, sig, args, loc=None):
            at = _at(builder, args[0], base, space, loc)
            builder.store(_narrow(builder, args[1], base, how), at).align = align
            return context.get_dummy_value()

        return types.void(types.intp, kind), codegen

    return store


def elements_of(builder: Any, vector: Any, n: int) -> Any:
    """Return the elements of an IR vector as the value of a Numba tuple."""
    parts = [builder.extract_element(vector, ir.Constant(I32, i)) for i in range(n)]
    return cgutils.pack_array(builder, parts)


def vector_of(builder: Any, elements: Any, base: Any, n: int) -> Any:
    """Return the value of a Numba tuple as an IR vector."""
    vector = ir.Constant(ir.VectorType(base, n), ir.Undefined)
    for i in range(n):
        part = builder.extract_value(elements, i)
        vector = builder.insert_element(vector, part, ir.Constant(I32, i))
    return vector


def _vectors(base: Any, kind: Any, n: int, *, space: int = GLOBAL) -> tuple[Any, Any]:
    """Make load and store of tuples of n 4-byte elements."""
    kinds: Any = types
    vector, many = ir.VectorType(base, n), kinds.UniTuple(kind, n)

    @intrinsic
    def load(typing_context, address):
        def codegen(context, builder, sig, args, loc=None):
            value = builder.load(_at(builder, args[0], vector, space, loc))
            value.align = 4 * n
            return elements_of(builder, value, n)

        return many(types.intp), codegen

    @intrinsic
    def store(typing_context, address, values):
        def codegen(context, builder, sig, args, loc=None):
            at = _at(builder, args[0], vector, space, loc)
            builder.store(vector_of(builder, args[1], base, n), at).align = 4 * n
            return context.get_dummy_value()

        return types.void(types.intp, many), codegen

    return load, store


load_f32, store_f32 = (make(F32, types.float32, align=4) for make in (_loader, _storer))
load_i32, store_i32 = (make(I32, types.int32, align=4) for make in (_loader, _storer))
load_f16, store_f16 = (make(_F16, types.float32, "f16", align=2) for make in (_loader, _storer))
load_bf16, store_bf16 = (make(_I16, types.float32, "bf16", align=2) for make in (_loader, _storer))
load_i64, store_i64 = (make(I64, types.int64, align=8) for make in (_loader, _storer))
load_u32 = _loader(I32, types.int64, "zext", align=4)
load_i16, load_u16 = (_loader(_I16, types.int64, how, align=2) for how in ("sext", "zext"))
load_i8, load_u8 = (_loader(_I8, types.int64, how, align=1) for how in ("sext", "zext"))
store_u8 = _storer(_I8, types.int64, "trunc", align=1)
store_u16 = _storer(_I16, types.int64, "trunc", align=2)
load_i32x4, store_i32x4 = _vectors(I32, types.int32, 4)
load_i32x2, store_i32x2 = _vectors(I32, types.int32, 2)
load_f32x4, store_f32x4 = _vectors(F32, types.float32, 4)
load_f32x2, store_f32x2 = _vectors(F32, types.float32, 2)

_in_group: dict[str, Any] = {"space": SHARED}
load_shared_f32, store_shared_f32 = (
    make(F32, types.float32, align=4, **_in_group) for make in (_loader, _storer)
)
load_shared_i32, store_shared_i32 = (
    make(I32, types.int32, align=4, **_in_group) for make in (_loader, _storer)
)
load_shared_f16, store_shared_f16 = (
    make(_F16, types.float32, "f16", align=2, **_in_group) for make in (_loader, _storer)
)
load_shared_i8, load_shared_u8 = (
    _loader(_I8, types.int64, how, align=1, **_in_group) for how in ("sext", "zext")
)
store_shared_u8 = _storer(_I8, types.int64, "trunc", align=1, **_in_group)
load_shared_i32x4, store_shared_i32x4 = _vectors(I32, types.int32, 4, **_in_group)
load_shared_i32x2, store_shared_i32x2 = _vectors(I32, types.int32, 2, **_in_group)
load_shared_f32x4, store_shared_f32x4 = _vectors(F32, types.float32, 4, **_in_group)


@intrinsic
def stream_i32x4(typing_context, address):
    """Load four int32 that no other thread will want soon, such as weights."""
    vector = ir.VectorType(I32, 4)

    def codegen(context, builder, sig, args, loc=None):
        load = declare(builder, "jit_stream_i32x4", vector, [I64])
        return elements_of(builder, builder.call(load, args, name=_name(loc)), 4)

    return types.UniTuple(types.int32, 4)(types.intp), codegen


@intrinsic(prefer_literal=True)
def shared(typing_context, nbytes):
    """Return the 16-byte aligned address of `nbytes` (a constant) that a workgroup shares.

    Each place in the source that calls this is one array; what it holds at first is undefined.
    """
    if not isinstance(nbytes, types.IntegerLiteral):
        raise TypeError("shared(n): n must be a number or a variable of the factory")
    size = nbytes.literal_value

    def codegen(context, builder, sig, args):
        kind = ir.ArrayType(_I8, size)
        name = builder.module.get_unique_name(SHARED_NAME)
        array = ir.GlobalVariable(builder.module, kind, name, addrspace=SHARED)
        array.linkage, array.initializer = "internal", ir.Constant(kind, ir.Undefined)
        array.align = 16
        return builder.ptrtoint(array, I64)

    return types.intp(nbytes), codegen
