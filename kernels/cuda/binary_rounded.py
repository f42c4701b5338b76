"""y = f(a, b), element by element, also as int8 for products with quantized weights."""

from jitllm.kernels.cuda._grid import LANES, QUAD
from jitllm.kernels.cuda._layout import ELEMENTS
from jitllm.kernels.cuda._rounding import ZERO, store_rounded
from jitllm.kernels.cuda.binary import function
from jitllm.kernels.gpu.vocabulary import (
    A,
    F,
    U,
    group_of_row,
    group_y,
    load_f32x4,
    load_u32,
    store_f32x4,
    thread,
)

THREADS = LANES


def binary_rounded(op, act):
    """Make y as `binary` does of rows that both have, and what `quantize` makes of y.

    Width is a multiple of 32, rows lie at multiples of 16 bytes.
    """
    f = function(op, act)

    def kernel(
        rows: A, a: A, b: A, y: A, q: A, lda: U, ldb: U, ldy: U, width: U, low: F, high: F
    ):  # fmt: skip
        row, count = group_y(), load_u32(rows)
        if row >= count:
            return
        i, values = group_of_row() * ELEMENTS + QUAD * thread(), (ZERO, ZERO, ZERO, ZERO)
        if i < width:
            s, t = load_f32x4(a + 4 * (row * lda + i)), load_f32x4(b + 4 * (row * ldb + i))
            values = (
                f(s[0], t[0], low, high), f(s[1], t[1], low, high),
                f(s[2], t[2], low, high), f(s[3], t[3], low, high),
            )  # fmt: skip
            store_f32x4(y + 4 * (row * ldy + i), values)
        store_rounded(values[0], values[1], values[2], values[3], q, row, count, i, width)

    return kernel
