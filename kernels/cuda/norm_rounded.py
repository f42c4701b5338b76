"""Norms of rows, also as int8 for products with quantized weights."""

from jitllm.kernels.cuda._norms import ZERO, normalizer, statistics
from jitllm.kernels.cuda._rounding import store_rounded
from jitllm.kernels.gpu import A, F, U, group_y, load_u32, store_f32x4, thread

THREADS = 256


def norm_rounded(is_layer, is_scaled, is_shifted):
    """Make y as `norm` does of whole rows, and what `quantize` makes of y.

    Width is a multiple of 32, rows lie at multiples of 16 bytes.
    """
    of, (_, four) = statistics(is_layer, THREADS), normalizer(is_scaled, is_shifted)

    def kernel(rows: A, x: A, y: A, w: A, b: A, q: A, ldx: U, ldy: U, width: U, eps: F):
        row, count = group_y(), load_u32(rows)
        if row >= count:
            return
        x, y = x + 4 * row * ldx, y + 4 * row * ldy
        mean, factor = of(x, width, eps, True)
        for start in range(0, width, 4 * THREADS):
            i, values = start + 4 * thread(), (ZERO, ZERO, ZERO, ZERO)
            if i < width:
                values = four(x, i, mean, factor, w, b)
                store_f32x4(y + 4 * i, values)
            store_rounded(values[0], values[1], values[2], values[3], q, row, count, i, width)

    return kernel
