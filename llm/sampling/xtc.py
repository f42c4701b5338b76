"""XTC (exclude top choices): now and then drops all likely tokens but the least likely of them.

Source: p-e-w, https://github.com/oobabooga/text-generation-webui/pull/6335.
"""

from typing import Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.seeded import SeededSampler
from jitllm.llm.sampling.softmax import softmax


class Xtc(SeededSampler):
    """With a given chance drops the tokens of at least `threshold`, except the last of them.

    Parameters
    ----------
    seed
        32 bits, unsigned.
    probability
        Chance to act on a token, above 0.
    threshold
        0 to 0.5.
    min_keep
        Do not act if fewer would stay.
    """

    name = "xtc"
    letter = "x"
    fields = ("xtc_probability", "xtc_threshold", "min_keep")

    def __init__(self, seed: int, probability: float, threshold: float, min_keep: int = 0) -> None:
        super().__init__(seed)
        self.probability = np.float32(probability)
        self.threshold = np.float32(threshold)
        self.min_keep = min_keep

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; no chance, or a threshold that two tokens cannot share, changes nothing."""
        if params.xtc_probability <= 0 or params.xtc_threshold > 0.5:
            return None
        return cls(context.seed, params.xtc_probability, params.xtc_threshold, params.min_keep)

    def apply(self, candidates: Candidates) -> None:
        """Draw, and drop the head of the sorted candidates if the draw says so."""
        if len(candidates) < 2 or self.rng.uniform_float32() > self.probability:
            return
        candidates.sort()
        p = softmax(candidates)
        n_likely = int(np.count_nonzero(p >= self.threshold))
        n_dropped = n_likely - 1
        if n_dropped > 0 and len(candidates) - n_dropped >= self.min_keep:
            candidates.keep(slice(n_dropped, None))


SAMPLER = Xtc
