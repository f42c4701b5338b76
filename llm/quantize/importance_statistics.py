"""What `llama-imatrix --show-statistics` tells of an importance matrix."""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.quantize.importance import Importance, Squares

_LAYER = re.compile(r"blk\.(\d+)\.")
_ACTIVE = 1e-5  # mean squares up to this count as none


class TensorStatistics(NamedTuple):
    """Numbers of one tensor: of the mean squares of its columns, those of used experts together.

    Attributes
    ----------
    name : str
    n : int
        How many columns.
    total, minimum, maximum, mean, deviation : float
    active : float
        Share of columns above 1e-5.
    entropy : float
        In bits; log2(n) if all columns matter alike.
    z_density : float
        Share of columns more than a standard deviation above the mean.
    cosine : float
        Of the angle between the sums and those of the same tensor a layer before; 0 in the first.
    """

    name: str
    n: int
    total: float
    minimum: float
    maximum: float
    mean: float
    deviation: float
    active: float
    entropy: float
    z_density: float
    cosine: float


def statistics(importance: Importance) -> tuple[TensorStatistics, ...]:
    """Return the statistics of each tensor that has any, in the order of the matrix."""
    used = {name: s for name, s in importance.squares.items() if s.counts.any()}
    return tuple(_of(name, squares, used) for name, squares in used.items())


def _of(name: str, squares: Squares, everyone: dict[str, Squares]) -> TensorStatistics:
    used = squares.counts > 0
    means = (squares.sums[used] / squares.counts[used, None]).reshape(-1)
    total, deviation = float(means.sum()), float(means.std())
    shares = means[means > 0] / total if total else means[:0]
    far = (means - means.mean()) / deviation > 1 if deviation else np.zeros(1, bool)
    return TensorStatistics(
        name,
        len(means),
        total,
        float(means.min()),
        float(means.max()),
        float(means.mean()),
        deviation,
        float((means > _ACTIVE).mean()),
        float(-(shares * np.log2(shares)).sum()),
        float(far.sum() / len(means)),
        _cosine(squares.sums, everyone.get(_before(name))),
    )


def _before(name: str) -> str:
    return _LAYER.sub(lambda match: f"blk.{int(match[1]) - 1}.", name)


def _cosine(sums: NDArray[np.float64], before: Squares | None) -> float:
    if before is None or before.sums.shape != sums.shape:
        return 0.0
    lengths = np.linalg.norm(sums) * np.linalg.norm(before.sums)
    return float((sums * before.sums).sum() / lengths) if lengths else 0.0
