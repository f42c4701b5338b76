"""Temperature, and dynamic temperature that follows the entropy."""

from typing import Self

import numpy as np

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import log32, ordered_sum, softmax

_COLDEST = np.float32(1e-30)  # below, the division would overflow


class Temperature(Sampler):
    """Divides logits by a temperature; at 0 or below only the first largest one stays possible.

    With a range, the temperature is `low + (high - low) * (H / log(C)) ** exponent` where low and
    high are `temperature` minus and plus the range, H the entropy and C the number of candidates.

    Parameters
    ----------
    temperature
        Any finite number.
    dynamic_range
        0 for a fixed temperature.
    exponent
        Shape of the dynamic curve.
    """

    name = "temperature"
    aliases = ("temp",)
    letter = "t"
    fields = ("temperature", "dynatemp_range", "dynatemp_exponent")
    keeps_best = True

    def __init__(
        self, temperature: float, dynamic_range: float = 0.0, exponent: float = 1.0
    ) -> None:
        self.temperature = np.float32(temperature)
        self.dynamic_range = np.float32(dynamic_range)
        self.exponent = np.float32(exponent)

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; a fixed temperature of 1 changes nothing."""
        if params.temperature == 1 and params.dynatemp_range <= 0:
            return None
        return cls(params.temperature, params.dynatemp_range, params.dynatemp_exponent)

    def draw_step(self) -> DrawStep | None:
        """Return the step of a fixed temperature that divides."""
        if self.dynamic_range > 0 or self.temperature <= _COLDEST:
            return None
        return DrawStep(self.name, float(self.temperature))

    def apply(self, candidates: Candidates) -> None:
        """Scale the logits."""
        if self.dynamic_range <= 0:
            self._scale(candidates, self.temperature)
        elif len(candidates) > 1:
            self._scale(candidates, self._dynamic(candidates))

    def _dynamic(self, candidates: Candidates) -> np.float32:
        candidates.sort()
        p = softmax(candidates)
        possible = p[p > 0]
        entropy = ordered_sum(-possible * log32(possible))
        highest = -log32(np.array([1 / len(candidates)], dtype=np.float32))[0]
        low = max(np.float32(0), self.temperature - self.dynamic_range)
        high = self.temperature + self.dynamic_range
        share = np.float32(np.float64(entropy / highest) ** np.float64(self.exponent))
        return np.float32(low + (high - low) * share)

    @staticmethod
    def _scale(candidates: Candidates, temperature: np.float32) -> None:
        if temperature > _COLDEST:
            candidates.set_logits(candidates.logits / temperature)
            return
        best = int(candidates.logits.argmax())
        top = candidates.logits[best]
        logits = candidates.writable_logits()
        logits[:] = -np.inf
        logits[best] = top


SAMPLER = Temperature
