"""y = x + (gate + shift) * source, the gate being one number for each row."""

from jitllm.kernels.cuda._grid import column
from jitllm.kernels.gpu.vocabulary import A, F, U, group_y, load_f32, load_u32, store_f32

THREADS = 64


def weighted_add():
    """Make the weighted sum of two values."""

    def kernel(
        rows: A, x: A, gate: A, source: A, y: A,
        ldx: U, ldg: U, lds: U, ldy: U, width: U, shift: F,
    ):  # fmt: skip
        i, row = column(), group_y()
        if row >= load_u32(rows) or i >= width:
            return
        factor = load_f32(gate + 4 * row * ldg) + shift
        v, other = load_f32(x + 4 * (row * ldx + i)), load_f32(source + 4 * (row * lds + i))
        store_f32(y + 4 * (row * ldy + i), v + factor * other)

    return kernel
