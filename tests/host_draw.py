"""What a device should choose that draws tokens: the host's samplers, made of the same records."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from jitllm.backends.base import Draw, DrawStep, Floats
from jitllm.llm.sampling import Candidates, SamplerChain
from jitllm.llm.sampling.base import Sampler
from jitllm.llm.sampling.dist import Dist
from jitllm.llm.sampling.greedy import Greedy
from jitllm.llm.sampling.min_p import MinP
from jitllm.llm.sampling.temperature import Temperature
from jitllm.llm.sampling.top_k import TopK
from jitllm.llm.sampling.top_n_sigma import TopNSigma
from jitllm.llm.sampling.top_p import TopP
from jitllm.llm.sampling.typical_p import TypicalP

NEAR = 5e-7


def chosen(logits: Floats, draw: Draw) -> tuple[int, Candidates]:
    """Return a token of all logits, float32 [V], and the candidates it was chosen from."""
    chain = SamplerChain([_SAMPLERS[step.name](step) for step in draw.steps], seed=0)
    token = chain.sample(logits)
    assert chain.last is not None
    return token, chain.last


def ends(candidates: Candidates) -> NDArray[np.float64]:
    """Return where the share of each candidate ends, float64 [C]."""
    assert candidates.probs is not None
    running: NDArray[np.float64] = np.cumsum(candidates.probs, dtype=np.float64)
    shares: NDArray[np.float64] = running / running[-1]
    return shares


def check(logits: Floats, draws: Sequence[Draw], tokens: Sequence[int]) -> int:
    """Compare drawn tokens with those of the host; returns how many differ.

    They may where the random number is within NEAR of the token's share.
    """
    n_others = 0
    for row, draw, token in zip(logits, draws, tokens, strict=True):
        want, left = chosen(row, draw)
        if token != want:
            number, shares = draw.steps[-1].amount, np.r_[0, ends(left)]
            (at,), n_others = np.flatnonzero(left.ids == token), n_others + 1
            assert shares[at] - NEAR <= number <= shares[at + 1] + NEAR, (want, token, draw)
    return n_others


def with_number(draw: Draw, number: float) -> Draw:
    """Return the same draw with another random number."""
    *others, last = draw.steps
    return Draw(draw.n, (*others, DrawStep(last.name, number)))


def _min_p(step: DrawStep) -> Sampler:
    sampler = MinP(1.0, step.least)
    sampler.log_p = np.float32(step.amount)
    return sampler


def _dist(step: DrawStep) -> Sampler:
    sampler = Dist(0)
    sampler.rng.uniform = lambda: step.amount  # type: ignore[method-assign]
    return sampler


_SAMPLERS: dict[str, Callable[[DrawStep], Sampler]] = {
    "top_k": lambda step: TopK(int(step.amount)),
    "top_p": lambda step: TopP(step.amount, step.least),
    "typical_p": lambda step: TypicalP(step.amount, step.least),
    "min_p": _min_p,
    "top_n_sigma": lambda step: TopNSigma(step.amount),
    "temperature": lambda step: Temperature(step.amount),
    "dist": _dist,
    "greedy": lambda step: Greedy(),
}
