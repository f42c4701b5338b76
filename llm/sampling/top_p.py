"""Top-p (nucleus sampling): the most probable tokens that together reach p.

Source: Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
"""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.order import Floats, top_positions
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import softmax

_FIRST_GUESS = 256


class TopP(Sampler):
    """Keeps the shortest sorted head whose probabilities sum to at least `p`.

    Parameters
    ----------
    p
        Below 1.
    min_keep
        Keep at least so many.
    """

    name = "top_p"
    aliases = ("nucleus",)
    letter = "p"
    fields = ("top_p", "min_keep")
    keeps_best = True

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self.p = np.float32(p)
        self.min_keep = min_keep

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; `top_p >= 1` keeps all tokens."""
        return cls(params.top_p, params.min_keep) if params.top_p < 1 else None

    def draw_step(self) -> DrawStep:
        """Return the step, by p."""
        return DrawStep(self.name, float(self.p), self.min_keep)

    def apply(self, candidates: Candidates) -> None:
        """Keep the head, sorted."""
        p = softmax(candidates)
        if candidates.is_sorted:
            candidates.keep(slice(self._n_kept(p)))
            return
        # sorting a whole vocabulary costs 20 ms: sort a head, and a longer one if it is too short
        n_head = _FIRST_GUESS
        while True:
            n_head = min(n_head, len(candidates))
            head = top_positions(candidates.logits, n_head)
            n_kept = self._n_kept(p[head])
            if n_kept < n_head or n_head == len(candidates):
                break
            n_head *= 8
        candidates.keep(head[:n_kept])
        candidates.is_sorted = True

    def _n_kept(self, sorted_probs: Floats) -> int:
        reached = int(np.searchsorted(np.cumsum(sorted_probs, dtype=np.float32), self.p)) + 1
        return min(max(reached, self.min_keep), len(sorted_probs))


SAMPLER = TopP
