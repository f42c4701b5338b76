"""Turn pairs of columns of each head as at an earlier position."""

from jitllm.kernels.cuda._angles import sin_cos
from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_y,
    load_f32,
    load_i32,
    load_u32,
    remainder_u32,
    store_f32,
    to_f32,
)

THREADS = 64


def rope_behind(is_neox):
    """Make the rotation, by position - `behind`, of n_rot columns from `start` of each head.

    Pairs are those of `rope`; frequencies are float32 [n_rot / 2], all other columns are copied.
    """

    def kernel(
        rows: A, positions: A, x: A, frequencies: A, y: A,
        ldx: U, ldy: U, width: U, head_dim: U, start: U, n_rot: U, behind: U, magnitude: F,
    ):  # fmt: skip
        i, row, half = column(), group_y(), n_rot >> 1
        if row >= load_u32(rows) or i >= width:
            return
        source = x + 4 * (row * ldx + i)
        at, own = remainder_u32(i, head_dim) - start, load_f32(source)
        if 0 <= at and at < n_rot:
            is_first = at < half if is_neox else at & 1 == 0
            pair = (at if is_first else at - half) if is_neox else at >> 1
            step = 4 * half if is_neox else 4
            position = max(0, load_i32(positions + 4 * row) - behind)
            sine, cosine = sin_cos(to_f32(position) * load_f32(frequencies + 4 * pair))
            sine, cosine = sine * magnitude, cosine * magnitude
            if is_first:
                own = own * cosine - load_f32(source + step) * sine
            else:
                own = load_f32(source - step) * sine + own * cosine
        store_f32(y + 4 * (row * ldy + i), own)

    return kernel
