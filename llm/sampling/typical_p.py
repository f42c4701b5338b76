"""Locally typical sampling: tokens whose surprise is close to the expected one.

Source: Meister et al. 2022, "Locally Typical Sampling", arXiv:2202.00666.
"""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import log32, ordered_sum, softmax


class TypicalP(Sampler):
    """Keeps the most typical tokens whose probabilities sum to more than `p`.

    Parameters
    ----------
    p
        Below 1.
    min_keep
        Keep at least so many.
    """

    name = "typical_p"
    aliases = ("typ_p", "typ", "typical")
    letter = "y"
    fields = ("typical_p", "min_keep")

    def __init__(self, p: float, min_keep: int = 0) -> None:
        self.p = np.float32(p)
        self.min_keep = min_keep

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; `typical_p >= 1` keeps all tokens."""
        return cls(params.typical_p, params.min_keep) if params.typical_p < 1 else None

    def draw_step(self) -> DrawStep:
        """Return the step, by p."""
        return DrawStep(self.name, float(self.p), self.min_keep)

    def apply(self, candidates: Candidates) -> None:
        """Keep, ordered from the most to the least typical."""
        candidates.sort()
        p = softmax(candidates)
        surprise = -log32(p)
        # an impossible token adds nothing; 0 * inf would be nan, as it is in llama.cpp
        terms = np.multiply(p, surprise, out=np.zeros_like(p), where=p > 0)
        distance = np.abs(surprise - ordered_sum(terms))
        order = np.argsort(distance, kind="stable")
        cumulative = np.cumsum(p[order], dtype=np.float32)
        n_kept = int(np.searchsorted(cumulative, self.p, side="right")) + 1
        candidates.keep(order[: max(n_kept, self.min_keep)])
        candidates.is_sorted = False


SAMPLER = TypicalP
