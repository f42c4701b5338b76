"""The random numbers of llama.cpp's samplers: mt19937 and libstdc++'s distributions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TWO_32 = 4294967296.0
_BELOW_ONE_64 = float(np.nextafter(1.0, 0.0))
_BELOW_ONE_32 = float(np.nextafter(np.float32(1), np.float32(0)))


class Mt19937:
    """Mersenne twister seeded as C++'s `std::mt19937(seed)`.

    Same 32-bit stream as `numpy.random.RandomState(seed)`. The uniform numbers follow
    `std::generate_canonical` of libstdc++.

    Parameters
    ----------
    seed
        32 bits, unsigned.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937(0)
        legacy: Any = np.random.RandomState(seed).get_state(legacy=False)
        self._bits.state = {"bit_generator": "MT19937", "state": legacy["state"]}
        self._ahead: Mt19937 | None = None  # what `peek` draws from
        self._next: float | None = None

    def peek(self) -> float:
        """Return what the next `uniform` will return; the state stays."""
        if self._next is None:
            if self._ahead is None:
                self._ahead = Mt19937.from_state(self.state())
            self._next = self._ahead.uniform()
        return self._next

    def uniform(self) -> float:
        """Return a double in [0, 1) from two 32-bit draws, the first one low."""
        if self._next is None:
            self._ahead = None
        self._next = None
        low = self._bits.random_raw()
        high = self._bits.random_raw()
        return min((low + high * _TWO_32) / (_TWO_32 * _TWO_32), _BELOW_ONE_64)

    def uniform_float32(self) -> float:
        """Return a float32 in [0, 1) from one 32-bit draw."""
        self._ahead = self._next = None
        return min(float(np.float32(self._bits.random_raw())) / _TWO_32, _BELOW_ONE_32)

    def discrete(self, probs: NDArray[np.float32]) -> int:
        """Draw a position with the given probabilities, as `std::discrete_distribution` does.

        A single candidate costs no draw.
        """
        if probs.shape[0] < 2:
            return 0
        weights = probs.astype(np.float64)
        cumulative = np.cumsum(weights / np.cumsum(weights)[-1])
        cumulative[-1] = 1.0
        return int(np.searchsorted(cumulative, self.uniform(), side="left"))

    def state(self) -> dict[str, Any]:
        """Return the generator's state: `key` uint32 `[624]` and `pos` int."""
        inner = self._bits.state["state"]
        return {"key": np.array(inner["key"], dtype=np.uint32), "pos": int(inner["pos"])}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Mt19937":
        """Build a generator that continues from what `state` returned."""
        key = np.array(state["key"], dtype=np.uint32)
        pos = int(state["pos"])
        if key.shape != (624,) or not 0 <= pos <= 624:
            raise ValueError(
                f"state of a Mersenne twister: expected 624 words and a position in 0..624, "
                f"got {key.shape} and {pos}"
            )
        generator = cls.__new__(cls)
        generator._ahead = generator._next = None
        generator._bits = np.random.MT19937(0)
        generator._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": pos}}
        return generator
