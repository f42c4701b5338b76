"""The vocabulary of GPU kernels: what a file of `jitllm.kernels.cuda` imports.

A kernel file has `THREADS`, the threads of a workgroup (a multiple of 32), and a factory with the
file's name that takes the kernel's constants, ints, and returns a function whose parameters are
annotated with `A` (an address, int64), `U` (a number from 0 to 2^32 - 1) or `F` (float32),
addresses first. If the function's attribute `groups` is n, threads get registers so that n
workgroups find room in a multiprocessor; else NVIDIA's compiler chooses, and may use memory in
their stead to have room for more::

    import numpy as np

    from jitllm.kernels.gpu.vocabulary import A, U, fma, lane, load_f32, store_f32, unroll, warp_sum

    THREADS = 32
    ZERO = np.float32(0)

    def row_dots(n_rows):
        def kernel(x: A, w: A, y: A, width: U):
            sums = registers_f32(n_rows)
            for k in range(lane(), width, 32):
                factor = load_f32(x + 4 * k)
                for i in unroll(n_rows):
                    sums[i] = fma(factor, load_f32(w + 4 * (i * width + k)), sums[i])
            for i in unroll(n_rows):
                total = warp_sum(sums[i])
                if lane() == 0:
                    store_f32(y + 4 * i, total)
        return kernel

What is known when the kernel is made (variables of the factory and of the module) is a constant:
branches on it vanish, `unroll` and `registers_f32` take it. `unroll(n)` repeats the loop's body n
times, `rolled(n)` has it once; with `range` the compilers choose. Arrays `registers_f32(n)` stay in
registers only if each index is a constant or comes from `unroll`. A helper is a function with
`@inline`; one that needs constants is made by a factory.

Arithmetic is Python's on int64 and float32. A bare `0.5` is a float64, which makes all it touches
float64: write `np.float32(0.5)` outside the kernel; kernels with float64 are refused, unless their
file says `FLOAT64 = True`. An int and a float32 also make a float64: use `to_f32`. `//` and `%` on
int64 are slow: use `divide_u32`, `remainder_u32`, or powers of two as `>>` and `&`.
"""

from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.gpu.loops import (
    registers_f32,
    registers_i32,
    rolled,
    unroll,
)
from jitllm.kernels.gpu.math import (
    add_f16x2,
    as_f32,
    as_i32,
    bound_f16x2,
    divide_u32,
    dot4_s8,
    dot4_u8,
    erf,
    exp,
    exp2,
    fabs,
    floor,
    fma,
    high_f16,
    log,
    low_f16,
    maximum,
    minimum,
    multiply_f16x2,
    pack_f16,
    permute_bytes,
    remainder_u32,
    round_even,
    sigmoid,
    sqrt,
    tanh,
    to_f32,
    to_i32,
)
from jitllm.kernels.gpu.memory import (
    load_bf16,
    load_f16,
    load_f32,
    load_f32x2,
    load_f32x4,
    load_i8,
    load_i16,
    load_i32,
    load_i32x2,
    load_i32x4,
    load_i64,
    load_shared_f16,
    load_shared_f32,
    load_shared_f32x4,
    load_shared_i8,
    load_shared_i32,
    load_shared_i32x2,
    load_shared_i32x4,
    load_shared_u8,
    load_u8,
    load_u16,
    load_u32,
    shared,
    store_bf16,
    store_f16,
    store_f32,
    store_f32x2,
    store_f32x4,
    store_i32,
    store_i32x2,
    store_i32x4,
    store_i64,
    store_shared_f16,
    store_shared_f32,
    store_shared_f32x4,
    store_shared_i32,
    store_shared_i32x2,
    store_shared_i32x4,
    store_shared_u8,
    store_u8,
    store_u16,
    stream_i32x4,
)
from jitllm.kernels.gpu.threads import (
    group_of_row,
    group_x,
    group_y,
    group_z,
    groups_x,
    lane,
    mma_f16,
    mma_s8,
    shuffle_f32,
    shuffle_i32,
    shuffle_xor_f32,
    shuffle_xor_i32,
    sync_threads,
    sync_warp,
    thread,
    warp,
    warp_max,
    warp_sum,
)

__all__ = [
    "A", "F", "U", "inline", "registers_f32", "registers_i32", "rolled", "unroll", "add_f16x2",
    "as_f32", "as_i32", "bound_f16x2", "multiply_f16x2", "divide_u32", "dot4_s8", "dot4_u8", "erf",
    "exp", "exp2", "fabs", "floor", "fma", "high_f16", "log", "low_f16", "maximum", "minimum",
    "pack_f16", "permute_bytes", "remainder_u32", "round_even", "sigmoid", "sqrt", "tanh", "to_f32",
    "to_i32", "load_bf16", "load_f16", "load_f32", "load_f32x2", "load_f32x4", "load_i16",
    "load_i32", "load_i32x2", "load_i32x4", "load_i64", "load_i8", "load_shared_f16",
    "load_shared_f32", "load_shared_f32x4", "load_shared_i32", "load_shared_i32x2",
    "load_shared_i32x4", "load_shared_i8", "load_shared_u8", "load_u16", "load_u32", "load_u8",
    "shared", "store_bf16", "store_f16", "store_f32", "store_f32x2", "store_f32x4", "store_i32",
    "store_i32x2", "store_i32x4", "store_i64", "store_shared_f16", "store_shared_f32",
    "store_shared_f32x4", "store_shared_i32", "store_shared_i32x2", "store_shared_i32x4",
    "store_shared_u8", "store_u16", "store_u8", "stream_i32x4", "group_of_row", "group_x",
    "group_y", "group_z", "groups_x", "lane", "mma_f16", "mma_s8", "shuffle_f32", "shuffle_i32",
    "shuffle_xor_f32", "shuffle_xor_i32", "sync_threads", "sync_warp", "thread", "warp", "warp_max",
    "warp_sum",
]  # fmt: skip


class A(int):
    """Kind of a parameter: an address in the device's memory."""


class U(int):
    """Kind of a parameter: a number from 0 to 2^32 - 1, int64 in the kernel."""


class F(float):
    """Kind of a parameter: a float32."""
