"""Top-n-sigma: logits within n standard deviations of the largest.

Source: Tang et al. 2024, "Top-n-sigma: Not All Logits Are You Need", arXiv:2411.07641.
"""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import largest, ordered_sum


class TopNSigma(Sampler):
    """Sets logits below `max - n * std` to -inf; they stay candidates, as in llama.cpp.

    Parameters
    ----------
    n
        Above 0.
    """

    name = "top_n_sigma"
    letter = "s"
    fields = ("top_n_sigma",)
    keeps_best = True

    def __init__(self, n: float) -> None:
        self.n = np.float32(n)

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; `top_n_sigma <= 0` changes nothing."""
        return cls(params.top_n_sigma) if params.top_n_sigma > 0 else None

    def draw_step(self) -> DrawStep:
        """Return the step, by n."""
        return DrawStep(self.name, float(self.n))

    def apply(self, candidates: Candidates) -> None:
        """Mask; mean and deviation are those of the logits above -inf."""
        if len(candidates) <= 1:
            return
        top = largest(candidates)
        logits = candidates.logits
        possible = logits[logits > -np.inf]
        n = np.float32(len(possible))
        with np.errstate(over="ignore", invalid="ignore"):  # huge logits mask nothing
            off = (possible - ordered_sum(possible) / n).astype(np.float64)
            std = np.float32(np.sqrt(ordered_sum((off * off).astype(np.float32)) / n))
            masked = logits < top - self.n * std
        candidates.writable_logits()[masked] = -np.inf


SAMPLER = TopNSigma
