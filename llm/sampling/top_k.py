"""Top-k: the k largest logits, sorted."""

from typing import Self

from jitllm.backends.base import DrawStep
from jitllm.llm.sampling.base import Candidates, Context, Sampler
from jitllm.llm.sampling.order import top_positions
from jitllm.llm.sampling.params import SamplingParams


class TopK(Sampler):
    """Keeps the `k` largest logits.

    Parameters
    ----------
    k
        At least 1.
    """

    name = "top_k"
    letter = "k"
    fields = ("top_k",)
    keeps_best = True

    def __init__(self, k: int) -> None:
        self.k = k

    @classmethod
    def from_params(cls, params: SamplingParams, context: Context) -> Self | None:
        """Build; `top_k <= 0` keeps all tokens."""
        return cls(params.top_k) if params.top_k > 0 else None

    def needs(self, n: int | None) -> int | None:
        """Return k, whatever comes later."""
        return self.k

    def draw_step(self) -> DrawStep:
        """Return the step, by k."""
        return DrawStep(self.name, self.k)

    def apply(self, candidates: Candidates) -> None:
        """Keep and sort; of equal logits the first ones stay."""
        k = min(self.k, len(candidates))
        if candidates.is_sorted:
            candidates.keep(slice(k))
        else:
            candidates.keep(top_positions(candidates.logits, k))
            candidates.is_sorted = True


SAMPLER = TopK
