"""Multiply rows with Hadamard matrices, in place: additions of two, neighbours first."""

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from jitllm.kernels.cache_types import hadamard_of_keys, hadamard_of_values
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.simd import I32, f32x16, load_f32x16, splat_f32, sqrt, store_f32x16

ONE = np.float32(1)


@intrinsic(prefer_literal=True)
def _add_neighbours(typing_context, x, step):
    """Return a + b in lane a and a - b in lane b of every two lanes `step` (a literal) apart."""
    stride = step.literal_value

    def codegen(context, builder, sig, args):
        lanes = range(f32x16.n)
        mask = ir.Constant(ir.VectorType(I32, f32x16.n), [i ^ stride for i in lanes])
        other = builder.shuffle_vector(args[0], args[0], mask)
        signs = ir.Constant(f32x16.ir, [-1.0 if i & stride else 1.0 for i in lanes])
        return builder.fadd(other, builder.fmul(args[0], signs))

    return f32x16(f32x16, step), codegen


@inline
def rotate(row, n, size):
    """Multiply each `size` of the n floats at `row` with the matrix; sizes are from 64 on."""
    for i in range(0, n, 16):
        x = _add_neighbours(_add_neighbours(load_f32x16(row + 4 * i), 1), 2)
        store_f32x16(row + 4 * i, _add_neighbours(_add_neighbours(x, 4), 8))
    step = 16
    while step < size:
        for i in range(0, n, 16):
            if i // step % 2 == 0:
                at, other = row + 4 * i, row + 4 * (i + step)
                a, b = load_f32x16(at), load_f32x16(other)
                store_f32x16(at, a + b)
                store_f32x16(other, a - b)
        step *= 2
    factor = splat_f32(ONE) / sqrt(splat_f32(np.float32(size)))
    for i in range(0, n, 16):
        store_f32x16(row + 4 * i, load_f32x16(row + 4 * i) * factor)


key_hadamard, value_hadamard = inline(hadamard_of_keys), inline(hadamard_of_values)
