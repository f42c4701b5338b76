"""Twin of `cpu.square_sums`: sums of squares of the rows that each expert gets."""

from typing import Any

import numpy as np
import numpy.typing as npt


def square_sums(
    x: npt.NDArray[np.float32],
    experts: npt.NDArray[np.integer[Any]],
    sums: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int32],
) -> None:
    """Add the squares of each row to the sums of its expert, in place.

    Parameters
    ----------
    x : float32 array, shape (rows, K)
    experts : ints, shape (rows,)
    sums : float32 array, shape (n_experts, K)
    counts : int32 array, shape (n_experts,)
        Rows that were added.
    """
    for expert in np.unique(experts):
        rows = x[experts == expert].astype(np.float64)
        sums[expert] += (rows**2).sum(axis=0).astype(np.float32)
        counts[expert] += len(rows)
