"""Mirostat: holds the surprise of the text near a target by adapting top-k.

Source: Basu et al. 2020, "Mirostat", arXiv:2007.14966.
"""

from typing import Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context
from jitllm.llm.sampling.order import Floats
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import log32, softmax
from jitllm.llm.sampling.surprise import SurpriseSampler

_N_ESTIMATE = 100  # the paper's m


class Mirostat(SurpriseSampler):
    """Chooses a token from a top-k whose k follows from Zipf's exponent and `mu`."""

    name = "mirostat"
    fields = ("mirostat_tau", "mirostat_eta")
    selects = True

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self:
        """Build with the target `mirostat_tau` and the rate `mirostat_eta`."""
        return cls(context.seed, params.mirostat_tau, params.mirostat_eta)

    def apply(self, candidates: Candidates) -> None:
        """Cut, draw, and move `mu`."""
        candidates.sort()
        exponent = _zipf_exponent(softmax(candidates))
        candidates.keep(slice(self._k(exponent, candidates.n_vocab, len(candidates))))
        self.draw(candidates)

    def _k(self, exponent: np.float32, n_vocab: int, n_candidates: int) -> int:
        # llama.cpp's k overflows an int where the target surprise is out of reach, with results
        # that depend on the processor; here all candidates stay
        epsilon = exponent - np.float32(1)
        with np.errstate(all="ignore"):  # one candidate, or equal ones: no exponent to speak of
            share = epsilon * _power(np.float32(2), self.mu)
            rest = np.float32(1) - _power(np.float32(n_vocab), -epsilon)
            k = _power(share / rest, np.float32(1) / exponent)
        return min(max(int(k), 1), n_candidates) if np.isfinite(k) else n_candidates


def _power(base: np.float32, exponent: np.float32) -> np.float32:
    return np.float32(np.float64(base) ** np.float64(exponent))


def _zipf_exponent(probs: Floats) -> np.float32:
    """Estimate the exponent from the ratios of the first probabilities (paper, eq. 8)."""
    n = min(_N_ESTIMATE, len(probs)) - 1
    rank = np.arange(1, n + 1, dtype=np.float32)
    t = log32((rank + np.float32(1)) / rank)
    with np.errstate(all="ignore"):
        b = log32(probs[:n] / probs[1 : n + 1])
        sums = np.cumsum(np.stack([t * b, t * t]), axis=1, dtype=np.float32)
        return np.float32(sums[0, -1] / sums[1, -1]) if n else np.float32(np.nan)


SAMPLER = Mirostat
