"""What attention does with a score: which keys a query sees, and what is added for distances."""

import numpy as np

from jitllm.kernels.gpu.vocabulary import exp2, inline, load_f32, tanh, to_f32

LOWEST = np.float32(-1e30)  # below every score; finite, so that differences are never NaN
LOG2_E = np.float32(np.log2(np.e))
ZERO, ONE = np.float32(0), np.float32(1)


@inline
def quick_exp(x):
    """Return e^x for x up to 0; the relative error grows with -x, by 2^-24 each."""
    return exp2(x * LOG2_E)


def bounds(causal, chunked, cross, alone):
    """Make f(position, start, end, window): the first cell a query sees, and the one behind.

    `start` is the position of the segment's first row, `end` the cell behind the last one.
    """

    @inline
    def seen(position, start, end, window):
        first = 0
        if not cross:
            if causal:
                end = position + 1
            elif window > 0:
                end = min(end, position + window // 2 + 1)
            if window > 0:
                if chunked:
                    first = position - position % window
                elif causal:
                    first = max(0, position - window + 1)
                else:
                    first = max(0, position - window // 2)
            if alone:
                first = max(first, start)
        return first, end

    return seen


def adjusted(capped, slopes, reach):
    """Make f(score, cap, terms, head, ahead): a scaled score, capped, and what its distance adds.

    `ahead` is the key's position minus the query's. With `capped`, a cap of 0 is none; with
    `slopes`, `terms` is float32 [H]; with `reach`, float32 [H, reach], the middle for distance 0.
    """
    middle = reach // 2

    @inline
    def adjust(score, cap, terms, head, ahead):
        if capped and cap > ZERO:
            score = cap * tanh(score / cap)
        if slopes:
            score -= load_f32(terms + 4 * head) * to_f32(abs(ahead))
        if reach > 0:
            column = min(max(ahead, -middle), middle) + middle
            score += load_f32(terms + 4 * (head * reach + column))
        return score

    return adjust
