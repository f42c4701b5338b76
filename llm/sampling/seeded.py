"""What the samplers that draw random numbers share."""

from collections.abc import Mapping
from typing import Any

from jitllm.llm.sampling.base import Sampler
from jitllm.llm.sampling.rng import Mt19937


class SeededSampler(Sampler):
    """A sampler with its own generator, started from the chain's seed.

    Parameters
    ----------
    seed
        32 bits, unsigned.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Mt19937(seed)

    def reset(self) -> None:
        """Start the generator again from the seed."""
        self.rng = Mt19937(self.seed)

    def state(self) -> dict[str, Any]:
        """Return the generator's state under `rng`, and `seed`."""
        return {"seed": self.seed, "rng": self.rng.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.seed = int(state["seed"])
        self.rng = Mt19937.from_state(state["rng"])
