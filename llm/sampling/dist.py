"""Dist: draws a token from the softmax of what is left."""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.seeded import SeededSampler
from jitllm.llm.sampling.softmax import unnormalized


class Dist(SeededSampler):
    """Draws one double per token and walks the cumulative probabilities up to it."""

    name = "dist"
    selects = True

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self:
        """Build with the chain's seed."""
        return cls(context.seed)

    def apply(self, candidates: Candidates) -> None:
        """Set `candidates.selected` and `probs`; SamplingError if no logit is finite."""
        p = unnormalized(candidates)
        running = np.cumsum(p, dtype=np.float64)
        total = running[-1]
        # one draw even for a single candidate, so that streams stay aligned
        target = total * self.rng.uniform()
        candidates.selected = min(int(np.searchsorted(running, target, side="left")), len(p) - 1)
        candidates.probs = (p / total).astype(np.float32)

    def draw_step(self) -> DrawStep:
        """Return the step with the number that comes next."""
        return DrawStep(self.name, self.rng.peek())

    def drawn(self) -> None:
        """Draw that number."""
        self.rng.uniform()


SAMPLER = Dist
