"""Gated units whose halves are held within bounds; memory speed, as `activation`.

A form takes gate, up and two numbers a and b.
"""

import numpy as np

from jitllm.kernels.cpu import vmath
from jitllm.kernels.cpu.activation import silu
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows, row_count
from jitllm.kernels.simd import (
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32,
    store_f32x16,
    vmax,
    vmin,
)

ONE = np.float32(1)


@inline
def _within(x, bound):
    return vmax(splat_f32(-bound), vmin(splat_f32(bound), x))


@inline
def swiglu_clamp(gate, up, a, b):
    """Return silu(min(gate, a)) * up within -a..a."""
    return silu(vmin(splat_f32(a), gate)) * _within(up, a)


@inline
def swiglu_limit(gate, up, a, b):
    """Return min(silu(gate), a) * up within -a..a."""
    return vmin(splat_f32(a), silu(gate)) * _within(up, a)


@inline
def swiglu_oai(gate, up, a, b):
    """Return x sigmoid(b x) * (1 + up within -a..a), x = min(gate, a)."""
    x = vmin(splat_f32(a), gate)
    return x * vmath.sigmoid(x * splat_f32(b)) * (_within(up, a) + splat_f32(ONE))


@inline
def situ(gate, up, a, b):
    """Return a tanh(gate / a) sigmoid(gate) * b tanh(up / b), or * up where b is 0."""
    if b > 0:
        up = splat_f32(b) * vmath.tanh(up / splat_f32(b))
    return splat_f32(a) * vmath.tanh(gate / splat_f32(a)) * vmath.sigmoid(gate) * up


FORMS = {
    "swiglu_clamp": swiglu_clamp,
    "swiglu_limit": swiglu_limit,
    "swiglu_oai": swiglu_oai,
    "situ": situ,
}


def bounded_glu(*, act):
    """Make the kernel y = form(gate, up, a, b) (BOUNDED_GLU of `backends/cpu_ops`)."""
    if act not in FORMS:
        raise ValueError(f"act must be one of {sorted(FORMS)}, got {act!r}")
    form = FORMS[act]

    def kernel(args, thread, n_threads, counter):
        n_rows = row_count(args)
        gate, ldg = load_i64(args + 16), load_i64(args + 24)
        up, ldu = load_i64(args + 32), load_i64(args + 40)
        y, ldy, width = load_i64(args + 48), load_i64(args + 56), load_i64(args + 64)
        a, b = load_f32(args + 72), load_f32(args + 80)
        row, end = next_rows(counter, n_rows, width)
        while row < end:
            for r in range(row, end):
                for i in range(0, 4 * width, 64):
                    x, other = load_f32x16(gate + r * ldg + i), load_f32x16(up + r * ldu + i)
                    store_f32x16(y + r * ldy + i, form(x, other, a, b))
            row, end = next_rows(counter, n_rows, width)

    return kernel
