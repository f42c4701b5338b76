"""Logit bias: adds a number to the logits of some tokens; -inf forbids them."""

from collections.abc import Mapping
from typing import Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.params import SamplingParams


class LogitBias(Sampler):
    """Adds a bias per token. `ignore_eos` forbids every token that ends a generation.

    Parameters
    ----------
    bias
        Token id to what is added to its logit.
    """

    name = "logit_bias"

    def __init__(self, bias: Mapping[int, float]) -> None:
        self.ids = np.array(list(bias), dtype=np.int32)
        self.values = np.array(list(bias.values()), dtype=np.float32)

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; no bias changes nothing. SamplingError if a token is not in the vocabulary."""
        bias = dict(params.logit_bias or {})
        if context.n_vocab is not None:
            outside = [token for token in bias if not 0 <= token < context.n_vocab]
            if outside:
                raise SamplingError(
                    f"logit_bias names token {outside[0]}, but the vocabulary has ids 0 to "
                    f"{context.n_vocab - 1}"
                )
        if params.ignore_eos:
            bias.update({token: -np.inf for token in context.eog_ids})
        return cls(bias) if bias else None

    def needs(self, n: int | None) -> int | None:
        """Return n and one for each token that falls behind, if none rises."""
        return None if n is None or (self.values > 0).any() else n + len(self.ids)

    def apply(self, candidates: Candidates) -> None:
        """Add the biases."""
        positions, which = candidates.positions_of(self.ids)
        candidates.writable_logits()[positions] += self.values[which]
        candidates.is_sorted = False


SAMPLER = LogitBias
