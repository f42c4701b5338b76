"""What becomes of the sums of matrix products before they are stored."""

from jitllm.kernels.gpu import inline, load_f32, store_f32


def finisher(biased, scaled, weighed, added):
    """Make f(total, row, out, expert, n, y, ldy, bias, scales, weights, residual, ldr).

    It stores y[row, out] = residual[row, out] + (total * scales[expert] * weights[row]
    + bias[expert * n + out]), of which parts may be missing, in this order. Strides are in floats;
    for heads, `out` counts through all of them.
    """

    @inline
    def finish(total, row, out, expert, n, y, ldy, bias, scales, weights, residual, ldr):
        if scaled:
            total = total * load_f32(scales + 4 * expert)
        if weighed:
            total = total * load_f32(weights + 4 * row)
        if biased:
            total = total + load_f32(bias + 4 * (expert * n + out))
        if added:
            total = load_f32(residual + 4 * (row * ldr + out)) + total
        store_f32(y + 4 * (row * ldy + out), total)

    return finish
