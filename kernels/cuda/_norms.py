"""Mean and size of a row, by a workgroup; what norms make of a number with them."""

import numpy as np

from jitllm.kernels.cuda._reduce import group_sum
from jitllm.kernels.gpu.vocabulary import inline, load_f32, load_f32x4, sqrt, thread, to_f32

ZERO, ONE = np.float32(0), np.float32(1)


def statistics(is_layer, threads):
    """Make f(x, n, eps, quads): the mean of n numbers, and 1 / sqrt(mean square + eps).

    The mean is 0 unless `is_layer`, squares are of distances from it. `quads` says that four load
    at once.
    """
    total, sum_of, squares_of = group_sum(threads), summer(threads), squarer(threads)

    @inline
    def of(x, n, eps, quads):
        count, mean = to_f32(n), ZERO
        if is_layer:
            mean = total(sum_of(x, n, quads)) / count
        return mean, ONE / sqrt(total(squares_of(x, n, mean, quads)) / count + eps)

    return of


def summer(threads):
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


def squarer(threads):
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
    """Make one(v, i, mean, factor, w, b), gains(w, i) and four(v, g, i, mean, factor, b).

    They normalize numbers from column i on, multiply them by w[i] and add b[i], where these are;
    four gets those of w, g, from gains.
    """

    @inline
    def one(v, i, mean, factor, w, b):
        v = (v - mean) * factor
        if is_scaled:
            v = v * load_f32(w + 4 * i)
        if is_shifted:
            v = v + load_f32(b + 4 * i)
        return v

    @inline
    def gains(w, i):
        if is_scaled:
            return load_f32x4(w + 4 * i)
        return ONE, ONE, ONE, ONE

    @inline
    def four(v, g, i, mean, factor, b):
        p, q, r, s = v
        p, q, r, s = p - mean, q - mean, r - mean, s - mean
        p, q, r, s = p * factor, q * factor, r * factor, s * factor
        if is_scaled:
            p, q, r, s = p * g[0], q * g[1], r * g[2], s * g[3]
        if is_shifted:
            c, d, e, f = load_f32x4(b + 4 * i)
            p, q, r, s = p + c, q + d, r + e, s + f
        return p, q, r, s

    return one, gains, four
