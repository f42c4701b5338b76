"""Turn pairs of columns of each head; the host has made cos and sin of the angles of each row."""

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_y,
    load_f32,
    load_u32,
    remainder_u32,
    store_f32,
)

THREADS = 64


def rope(is_neox):
    """Make the rotation of column i and i + n_rot / 2 if `is_neox`, else of 2i and 2i + 1.

    `angles` are float32 [T, n_rot / 2, 2], cos and sin; columns from n_rot on are copied.
    """

    def kernel(
        rows: A, x: A, y: A, angles: A,
        ldx: U, ldy: U, width: U, head_dim: U, n_rot: U, magnitude: F,
    ):  # fmt: skip
        i, row, half = column(), group_y(), n_rot >> 1
        if row >= load_u32(rows) or i >= width:
            return
        source = x + 4 * (row * ldx + i)
        at, own = remainder_u32(i, head_dim), load_f32(source)
        if at < n_rot:
            is_first = at < half if is_neox else at & 1 == 0
            pair = (at if is_first else at - half) if is_neox else at >> 1
            step = half if is_neox else 1
            angle = angles + 8 * (row * half + pair)
            cosine, sine = load_f32(angle) * magnitude, load_f32(angle + 4) * magnitude
            if is_first:
                own = own * cosine - load_f32(source + 4 * step) * sine
            else:
                own = load_f32(source - 4 * step) * sine + own * cosine
        store_f32(y + 4 * (row * ldy + i), own)

    return kernel
