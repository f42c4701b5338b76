"""Greedy: the largest logit, the first one of equals."""

from typing import Self

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.params import SamplingParams
from jitllm.llm.sampling.softmax import raise_unusable


class Greedy(Sampler):
    """Chooses the candidate with the largest logit."""

    name = "greedy"
    selects = True

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self:
        """Build; greedy has no parameters."""
        return cls()

    def needs(self, n: int | None) -> int | None:
        """Return 1."""
        return 1

    def draw_step(self) -> DrawStep:
        """Return the step."""
        return DrawStep(self.name)

    def apply(self, candidates: Candidates) -> None:
        """Set `candidates.selected`; SamplingError if the largest logit is not finite."""
        best = int(candidates.logits.argmax())
        top = float(candidates.logits[best])
        if not -float("inf") < top < float("inf"):
            raise_unusable(top)
        candidates.selected = best


SAMPLER = Greedy
