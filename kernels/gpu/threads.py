"""Threads of a GPU kernel: who they are, how they wait for and talk to each other.

Everything here is a call of a function `jit_...` that `jitllm.kernels.gpu.ptx` defines for GPUs and
`jitllm.kernels.gpu.host` for the simulator. All 32 threads of a warp, or all of a workgroup,
must reach a call that synchronizes: it may not stand where only some of them go. Of these calls,
`sync_threads` and `sync_warp` alone make writes to memory visible to other threads; shuffles, sums
and products do not, though in the simulator they happen to.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from jitllm.kernels.simd import F32, I32, I64, declare

WARP = 32
SITE = ir.Constant(I32, -1)  # first argument of all that synchronizes: which call this is
_VOID = ir.VoidType()


def _number(name: str, change: Any = None) -> Any:
    """Make a function that returns a number of the thread or its workgroup as int64."""

    @intrinsic
    def number(typing_context):
        def codegen(context, builder, sig, args):
            value = builder.call(declare(builder, f"jit_{name}", I32, []), [])
            return builder.zext(change(builder, value) if change else value, I64)

        return types.int64(), codegen

    return number


thread = _number("thread")  # in the workgroup
lane = _number("thread", lambda builder, i: builder.and_(i, ir.Constant(I32, WARP - 1)))
warp = _number("thread", lambda builder, i: builder.lshr(i, ir.Constant(I32, 5)))
group_x, group_y, group_z = (_number(f"group_{axis}") for axis in "xyz")
groups_x = _number("groups_x")


@intrinsic
def group_of_row(typing_context):
    """Return group_x() + group_z() * groups_x(): workgroups of a row may need two axes."""

    def codegen(context, builder, sig, args):
        x, z, n = (
            builder.call(declare(builder, f"jit_{name}", I32, []), [])
            for name in ("group_x", "group_z", "groups_x")
        )
        return builder.zext(builder.add(x, builder.mul(z, n)), I64)

    return types.int64(), codegen


def _barrier(name: str) -> Any:
    @intrinsic
    def wait(typing_context):
        def codegen(context, builder, sig, args):
            builder.call(declare(builder, f"jit_{name}", _VOID, [I32]), [SITE])
            return context.get_dummy_value()

        return types.void(), codegen

    return wait


sync_threads = _barrier("sync_threads")  # the workgroup; makes writes to memory visible to it
sync_warp = _barrier("sync_warp")  # the same for a warp


def _shuffle(name: str, kind: Any) -> Any:
    """Make f(x, which): the x of another thread of the warp."""

    @intrinsic
    def shuffle(typing_context, x, which):
        def codegen(context, builder, sig, args):
            value = builder.bitcast(args[0], I32)
            function = declare(builder, f"jit_{name}", I32, [I32, I32, I32])
            other = builder.call(function, [SITE, value, builder.trunc(args[1], I32)])
            return builder.bitcast(other, F32 if kind == types.float32 else I32)

        return kind(kind, types.int64), codegen

    return shuffle


shuffle_f32, shuffle_i32 = (_shuffle("shuffle", kind) for kind in (types.float32, types.int32))
shuffle_xor_f32, shuffle_xor_i32 = (
    _shuffle("shuffle_xor", kind) for kind in (types.float32, types.int32)
)


def _reduction(name: str) -> Any:
    """Make f(x): all lanes' x together, float32 or int32, combined as a butterfly does."""

    @intrinsic
    def reduce(typing_context, x):
        is_float = isinstance(x, types.Float)
        kind, base = (types.float32, F32) if is_float else (types.int32, I32)

        def codegen(context, builder, sig, args):
            suffix = "f32" if is_float else "i32"
            function = declare(builder, f"jit_{name}_{suffix}", base, [I32, base])
            return builder.call(function, [SITE, args[0]])

        return kind(kind), codegen

    return reduce


warp_sum, warp_max = _reduction("warp_sum"), _reduction("warp_max")


def _product(name: str, kind: Any, base: Any) -> Any:
    """Make f(a, b, c): c + a b of tiles that a warp's threads hold in parts."""
    result = ir.ArrayType(base, 4)

    @intrinsic
    def multiply(typing_context, a, b, c):
        def codegen(context, builder, sig, args):
            parts = [
                builder.extract_value(value, i)
                for value, n in zip(args, (4, 2, 4), strict=True) for i in range(n)
            ]  # fmt: skip
            function = declare(builder, f"jit_{name}", result, [I32, *[I32] * 6, *[base] * 4])
            return builder.call(function, [SITE, *parts])

        four = types.UniTuple(kind, 4)
        words = types.UniTuple(types.int32, 4), types.UniTuple(types.int32, 2)
        return four(*words, four), codegen

    return multiply


# A is 16 rows, B 8 columns, C 16 x 8. With g = lane / 4 and t = lane % 4, a thread holds C's rows
# g and g + 8 at columns 2t, 2t + 1, as (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
# float16, k = 16: a word is two neighbours along k, the first in its low half. A's words are
# (g, k 2t), (g + 8, k 2t), (g, k 2t + 8), (g + 8, k 2t + 8), B's (k 2t, column g),
# (k 2t + 8, column g). int8, k = 32: four neighbours; as above with 4t for 2t and 16 for 8.
mma_f16 = _product("mma_f16", types.float32, F32)
mma_s8 = _product("mma_s8", types.int32, I32)
