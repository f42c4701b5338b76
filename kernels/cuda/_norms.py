"""Mean and size of a row, by a workgroup; what norms make of a number with them."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu import inline, load_f32, load_f32x4, sqrt, thread, to_f32

ZERO, ONE = np.float32(0), np.float32(1)


def statistics(is_layer, threads):
    """Make f(x, n, eps, quads): the mean of n numbers, and 1 / sqrt(mean square + eps).

    The mean is 0 unless `is_layer`, squares are of distances from it. `quads` says that four load
    at once.
    """
    total, sum_of, squares_of = group_sum(threads), _sum(threads), _squares(threads)

    @inline
    def of(x, n, eps, quads):
        count, mean = to_f32(n), ZERO
        if is_layer:
            mean = total(sum_of(x, n, quads)) / count
        return mean, ONE / sqrt(total(squares_of(x, n, mean, quads)) / count + eps)

    return of


def _sum(threads):
    """Make f(x, n, quads): a thread's part of the sum."""

    @inline
    def part(x, n, quads):
        total = ZERO
        if quads:
            for i in range(4 * thread(), n, 4 * threads):
                a, b, c, d = load_f32x4(x + 4 * i)
                total += (a + b) + (c + d)
        else:
            for i in range(thread(), n, threads):
                total += load_f32(x + 4 * i)
        return total

    return part


def _squares(threads):
    """Make f(x, n, mean, quads): a thread's part of the sum of (x - mean)^2."""

    @inline
    def part(x, n, mean, quads):
        total = ZERO
        if quads:
            for i in range(4 * thread(), n, 4 * threads):
                a, b, c, d = load_f32x4(x + 4 * i)
                a, b, c, d = a - mean, b - mean, c - mean, d - mean
                total += (a * a + b * b) + (c * c + d * d)
        else:
            for i in range(thread(), n, threads):
                v = load_f32(x + 4 * i) - mean
                total += v * v
        return total

    return part


def normalizer(is_scaled, is_shifted):
    """Make one(x, i, mean, factor, w, b) and four(...): normalized numbers from column i on.

    They are multiplied by w[i] and added to b[i], where these are.
    """

    @inline
    def value(v, i, mean, factor, w, b):
        v = (v - mean) * factor
        if is_scaled:
            v = v * load_f32(w + 4 * i)
        if is_shifted:
            v = v + load_f32(b + 4 * i)
        return v

    @inline
    def one(x, i, mean, factor, w, b):
        return value(load_f32(x + 4 * i), i, mean, factor, w, b)

    @inline
    def four(x, i, mean, factor, w, b):
        p, q, r, s = load_f32x4(x + 4 * i)
        return (
            value(p, i, mean, factor, w, b), value(q, i + 1, mean, factor, w, b),
            value(r, i + 2, mean, factor, w, b), value(s, i + 3, mean, factor, w, b),
        )  # fmt: skip

    return one, four
