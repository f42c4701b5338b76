"""Float32 arithmetic that samplers share, in the order of operations llama.cpp uses.

Elementary functions go through float64 and are rounded once, which is what a good `expf` returns;
sums run left to right in float32 (`numpy.cumsum`; `numpy.sum` adds pairwise).
"""

import numpy as np

from jitllm.llm.sampling.base import Candidates
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.order import Floats


def largest(candidates: Candidates) -> np.float32:
    """Return the largest logit; SamplingError if no candidate can be drawn from it."""
    logits = candidates.logits
    if not len(candidates):
        raise SamplingError("no candidate token is left: a sampler or processor removed all")
    top: np.float32 = logits[0] if candidates.is_sorted else logits.max()
    if not np.isfinite(top):
        raise_unusable(float(top))
    return top


def raise_unusable(top: float) -> None:
    """Say why logits with this maximum cannot be sampled from."""
    if top == -np.inf:
        raise SamplingError(
            "all logits are -inf, so no token is possible: loosen the grammar, the logit_bias or "
            "the logits processor that forbids every token"
        )
    raise SamplingError(
        f"the largest logit is {top}, expected a finite number: the model or a logits processor "
        f"produced nan or inf"
    )


def exp32(x: Floats) -> Floats:
    """Return exp(x) rounded once to float32."""
    return np.exp(x.astype(np.float64)).astype(np.float32)


def log32(x: Floats) -> Floats:
    """Return log(x) rounded once to float32; -inf at 0 without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(x.astype(np.float64)).astype(np.float32)


def ordered_sum(x: Floats) -> np.float32:
    """Return the float32 sum from left to right."""
    total: np.float32 = np.cumsum(x, dtype=np.float32)[-1]
    return total


def unnormalized(candidates: Candidates) -> Floats:
    """Return exp(logits - max), float32 `[C]`."""
    with np.errstate(over="ignore"):  # to -inf, which is right
        return exp32(candidates.logits - largest(candidates))


def softmax(candidates: Candidates) -> Floats:
    """Set and return `candidates.probs`, float32 `[C]` with sum 1."""
    p = unnormalized(candidates)
    p /= ordered_sum(p)
    candidates.probs = p
    return p
