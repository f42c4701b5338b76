"""Mirostat 2: holds the surprise of the text near a target by a cut on each token's surprise.

Source: Basu et al. 2020, "Mirostat", arXiv:2007.14966, algorithm 2.
"""

from typing import Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import softmax
from jitllm.llm.sampling.surprise import SurpriseSampler, surprise


class MirostatV2(SurpriseSampler):
    """Chooses among the tokens whose surprise is at most `mu` bits; one always stays."""

    name = "mirostat_v2"
    fields = ("mirostat_tau", "mirostat_eta")
    selects = True

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self:
        """Build with the target `mirostat_tau` and the rate `mirostat_eta`."""
        return cls(context.seed, params.mirostat_tau, params.mirostat_eta)

    def apply(self, candidates: Candidates) -> None:
        """Cut, draw, and move `mu`."""
        candidates.sort()
        too_much = np.flatnonzero(surprise(softmax(candidates)) > self.mu)
        if len(too_much):
            candidates.keep(slice(max(int(too_much[0]), 1)))
        self.draw(candidates)


SAMPLER = MirostatV2
