"""Atomics (in one order that all threads see), prefetch and calls by address, as intrinsics."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.simd import I32, I64, declare, pointer


@intrinsic
def atomic_add(typing_context, address, value):
    """Add to the int64 at `address`; returns what it was."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", pointer(builder, args[0], I64), args[1], "seq_cst")

    return types.int64(types.intp, types.int64), codegen


@intrinsic
def atomic_load(typing_context, address):
    """Load the int64 at `address`; all threads see all atomics in one order."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(pointer(builder, args[0], I64), "seq_cst", 8)

    return types.int64(types.intp), codegen


@intrinsic
def atomic_store(typing_context, address, value):
    """Store the int64 at `address` after all earlier reads and writes, before all later ones."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], pointer(builder, args[0], I64), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), codegen


@intrinsic
def compare_swap(typing_context, address, expected, value):
    """Store `value` in the int64 at `address` if it is `expected`; returns whether it was."""

    def codegen(context, builder, sig, args):
        at = pointer(builder, args[0], I64)
        pair = builder.cmpxchg(at, args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.intp, types.int64, types.int64), codegen


@intrinsic
def call_kernel(typing_context, address, args_address, thread, n_threads, counter):
    """Call the kernel at `address` (see `jit`)."""

    def codegen(context, builder, sig, args):
        fn = ir.FunctionType(ir.VoidType(), [I64] * 4)
        builder.call(pointer(builder, args[0], fn), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@intrinsic
def call_word(typing_context, address, argument):
    """Call a C function intp(intp) at `address`: the pool's way to yield and to read the clock."""

    def codegen(context, builder, sig, args):
        return builder.call(pointer(builder, args[0], ir.FunctionType(I64, [I64])), args[1:])

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def prefetch(typing_context, address):
    """Hint that the cache line at `address` will be read soon."""

    def codegen(context, builder, sig, args):
        byte = ir.IntType(8).as_pointer()
        fn = declare(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, I32, I32, I32])
        flags = [ir.Constant(I32, x) for x in (0, 3, 1)]
        builder.call(fn, [pointer(builder, args[0], ir.IntType(8)), *flags])
        return context.get_dummy_value()

    return types.void(types.intp), codegen
