"""A number with its standard error."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a function of means; `float` of it is its value.

    Attributes
    ----------
    value : float
    standard_error : float
        From the spread of what the mean was taken of.
    """

    value: float
    standard_error: float

    @classmethod
    def mean(cls, values: NDArray[Any]) -> Self:
        """Return the mean of numbers, at least one; of a single one the error is 0."""
        numbers = np.asarray(values, np.float64)
        error = float(numbers.std()) / math.sqrt(max(1, len(numbers) - 1))
        return cls(float(numbers.mean()), error)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.6f} +/- {self.standard_error:.6f}"
