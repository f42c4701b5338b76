"""Min-p: tokens at least p times as probable as the most probable one.

Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
"""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import largest, log32


class MinP(Sampler):
    """Keeps logits of at least `max + log(p)`; order stays.

    Parameters
    ----------
    p
        Above 0.
    min_keep
        Keep at least so many.
    """

    name = "min_p"
    letter = "m"
    fields = ("min_p", "min_keep")
    keeps_best = True

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self.log_p = log32(np.array([p], dtype=np.float32))[0]
        self.min_keep = min_keep

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; `min_p <= 0` keeps all tokens."""
        return cls(params.min_p, params.min_keep) if params.min_p > 0 else None

    def draw_step(self) -> DrawStep:
        """Return the step, by the logarithm of p."""
        return DrawStep(self.name, float(self.log_p), self.min_keep)

    def apply(self, candidates: Candidates) -> None:
        """Keep what reaches the threshold; sorts only if `min_keep` asks for more."""
        kept = np.flatnonzero(candidates.logits >= largest(candidates) + self.log_p)
        if len(kept) >= self.min_keep:
            candidates.keep(kept)
        else:
            candidates.sort()
            candidates.keep(slice(self.min_keep))


SAMPLER = MinP
