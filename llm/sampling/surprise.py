"""What both Mirostat samplers share: a target surprise and the threshold that chases it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jitllm.llm.sampling.base import Candidates
from jitllm.llm.sampling.order import Floats
from jitllm.llm.sampling.seeded import SeededSampler
from jitllm.llm.sampling.softmax import softmax


def surprise(probs: Floats) -> Floats:
    """Return -log2(p) in bits, float32; inf at 0 without a warning."""
    with np.errstate(divide="ignore"):
        return (-np.log2(probs.astype(np.float64))).astype(np.float32)


class SurpriseSampler(SeededSampler):
    """A random sampler with a threshold `mu` that moves by `eta * (surprise - tau)` a token.

    Parameters
    ----------
    seed
        32 bits, unsigned.
    tau
        Target surprise in bits.
    eta
        Learning rate.
    """

    def __init__(self, seed: int, tau: float, eta: float) -> None:
        super().__init__(seed)
        self.tau = np.float32(tau)
        self.eta = np.float32(eta)
        self.mu = np.float32(2) * self.tau

    def draw(self, candidates: Candidates) -> None:
        """Choose a candidate by its probability and move `mu`."""
        probs = softmax(candidates)
        candidates.selected = self.rng.discrete(probs)
        observed = surprise(probs[candidates.selected : candidates.selected + 1])[0]
        self.mu = self.mu - self.eta * (observed - self.tau)

    def reset(self) -> None:
        """Start the generator and `mu` again."""
        super().reset()
        self.mu = np.float32(2) * self.tau

    def state(self) -> dict[str, Any]:
        """Return the generator's state and `mu`."""
        return {**super().state(), "mu": float(self.mu)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().load_state(state)
        self.mu = np.float32(state["mu"])
