"""Repetition, frequency and presence penalties on the last tokens, prompt included.

Sources: Keskar et al. 2019, "CTRL", arXiv:1909.05858 (repetition; negative logits are multiplied);
OpenAI's API reference (frequency and presence).
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams


class Penalties(Sampler):
    """Lowers the logits of tokens seen in a window.

    Parameters
    ----------
    last_n
        Length of the window, at least 1; -1 for everything.
    repeat
        Positive logits are divided by it, others multiplied.
    frequency
        Subtracted once per occurrence.
    presence
        Subtracted once.
    """

    name = "penalties"
    letter = "e"
    fields = (
        "penalty_last_n",
        "repetition_penalty",
        "frequency_penalty",
        "presence_penalty",
    )

    def __init__(self, last_n: int, repeat: float, frequency: float, presence: float) -> None:
        self.last_n = last_n
        self.repeat = np.float32(repeat)
        self.frequency = np.float32(frequency)
        self.presence = np.float32(presence)
        self.reset()

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; neutral penalties or an empty window change nothing."""
        strength = params.repetition_penalty, params.frequency_penalty, params.presence_penalty
        if params.penalty_last_n == 0 or strength == (1, 0, 0):
            return None
        return cls(params.penalty_last_n, *strength)

    def needs(self, n: int | None) -> int | None:
        """Return n and one for each token that may fall behind, if none can rise."""
        can_rise = self.repeat < 1 or self.frequency < 0 or self.presence < 0
        return None if n is None or can_rise else n + len(self._counts)

    def accept(self, token: int) -> None:
        """Move the window on by one token."""
        if len(self._window) == self._window.maxlen:
            oldest = self._window[0]
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._window.append(token)
        self._counts[token] += 1

    def apply(self, candidates: Candidates) -> None:
        """Penalize the candidates that are in the window."""
        if not self._counts:
            return
        n_seen = len(self._counts)
        seen = np.fromiter(self._counts.keys(), dtype=np.int32, count=n_seen)
        counts = np.fromiter(self._counts.values(), dtype=np.float32, count=n_seen)
        positions, which = candidates.positions_of(seen)
        logits = candidates.writable_logits()
        old = logits[positions]
        with np.errstate(over="ignore"):  # to -inf, which is right
            new = np.where(old <= 0, old * self.repeat, old / self.repeat)
            logits[positions] = new - (counts[which] * self.frequency + self.presence)
        candidates.is_sorted = False

    def reset(self) -> None:
        """Forget the window."""
        self._window: deque[int] = deque(maxlen=None if self.last_n < 0 else self.last_n)
        self._counts: Counter[int] = Counter()

    def state(self) -> dict[str, Any]:
        """Return the window as `tokens`, int32."""
        return {"tokens": np.array(self._window, dtype=np.int32)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.reset()
        self._window.extend(int(token) for token in state["tokens"])
        self._counts.update(self._window)


SAMPLER = Penalties
