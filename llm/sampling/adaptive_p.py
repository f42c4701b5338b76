"""Adaptive-p: favours tokens whose probability is near a target that follows the past choices.

Source: https://github.com/ggml-org/llama.cpp/pull/17927.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.seeded import SeededSampler
from jitllm.llm.sampling.softmax import softmax

_INVERSE_WIDTH = np.float32(1) / np.float32(0.3)
_PEAK = np.float32(5)
_SHARPNESS = np.float32(10)


class AdaptiveP(SeededSampler):
    """Chooses a token after reshaping the distribution around a moving target probability.

    Parameters
    ----------
    seed
        32 bits, unsigned.
    target
        Wanted mean probability of the chosen tokens; negative draws from the plain distribution.
    decay
        Of the moving average, 0 to 0.99.
    """

    name = "adaptive_p"
    letter = "a"
    fields = ("adaptive_target", "adaptive_decay")
    selects = True

    def __init__(self, seed: int, target: float, decay: float) -> None:
        super().__init__(seed)
        self.target = np.float32(target)
        self.decay = np.float32(decay)
        self._forget()

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self:
        """Build with `adaptive_target` and `adaptive_decay`."""
        return cls(context.seed, params.adaptive_target, params.adaptive_decay)

    def _forget(self) -> None:
        rest = np.float32(1) - self.decay
        self.weighted_sum = self.target / rest
        self.total_weight = np.float32(1) / rest
        self.pending_token = -1  # the choice that is not accepted yet
        self.pending_prob = np.float32(0)

    def apply(self, candidates: Candidates) -> None:
        """Reshape and draw."""
        original = softmax(candidates)
        if self.target < 0:
            candidates.selected = self.rng.discrete(original)
            return
        mean = self.weighted_sum / self.total_weight
        goal = np.clip(np.float32(2) * self.target - mean, np.float32(0), np.float32(1))
        off = np.abs((original - goal) * _INVERSE_WIDTH)
        reshaped = _PEAK - _SHARPNESS * off * off / (np.float32(1) + off)
        reshaped[candidates.logits == -np.inf] = -np.inf
        candidates.set_logits(reshaped)
        candidates.is_sorted = False
        candidates.selected = self.rng.discrete(softmax(candidates))
        self.pending_token = candidates.token
        self.pending_prob = original[candidates.selected]

    def accept(self, token: int) -> None:
        """Move the average if the token is the one this sampler chose."""
        if token == self.pending_token:
            self.weighted_sum = self.pending_prob + self.decay * self.weighted_sum
            self.total_weight = np.float32(1) + self.decay * self.total_weight
        self.pending_token = -1

    def reset(self) -> None:
        """Start the generator and the average again."""
        super().reset()
        self._forget()

    def state(self) -> dict[str, Any]:
        """Return the generator's state, the average and the choice not accepted yet."""
        return {
            **super().state(),
            "weighted_sum": float(self.weighted_sum),
            "total_weight": float(self.total_weight),
            "pending_token": self.pending_token,
            "pending_prob": float(self.pending_prob),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().load_state(state)
        self.weighted_sum = np.float32(state["weighted_sum"])
        self.total_weight = np.float32(state["total_weight"])
        self.pending_token = int(state["pending_token"])
        self.pending_prob = np.float32(state["pending_prob"])


SAMPLER = AdaptiveP
