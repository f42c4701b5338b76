"""Quantize to the lattices of IQ1, IQ2 and IQ3: the best scale of a group, the nearest points.

Some weights side by side, a part, take a point of the lattice together. For part x with weights w
of its errors, a point p at scale c leaves the error sum(w (x - c p)^2); the smallest one has the
largest gain sum(w x p) - c / 2 * sum(w p^2), so the gains of all points are one matrix product and
the search is complete. The scale of a group is the best of a few candidates, then the one that
fits the points it gave in the sense of least squares.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.kernels.formats import Bytes, Floats, Format
from jitllm.kernels.formats._pack import inverse
from jitllm.kernels.formats._search import spread

Numbers = npt.NDArray[np.int64]

_GAINS_AT_ONCE = 1 << 19  # as many as caches hold
# The largest product that OpenBLAS does in the calling thread: where callers are threads
# themselves, its own only stand in each other's way.
_ONE_THREAD = 1 << 18


class Fit(NamedTuple):
    """What a lattice makes of blocks.

    Attributes
    ----------
    d : float32 [n, 1]
        Float16 numbers.
    s : uint8 [n, groups]
        The scale of a group is d * factor * (2 s + 1).
    numbers, shifts : int64 [n, parts]
        Points, and which shift they have.
    """

    d: Floats
    s: Bytes
    numbers: Numbers
    shifts: Numbers


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points of a format, and how scales and shifts are shared.

    Attributes
    ----------
    fmt : Format
    grid : uint8 [points, dim]
        Level numbers.
    limit : int
        Largest s.
    starts : tuple of float
        Where candidates put the largest value of a group.
    shifts : tuple of int
        What may be added to level numbers to make codes.
    shared : int
        Parts with one shift.
    """

    fmt: Format
    grid: Bytes
    limit: int
    starts: tuple[float, ...]
    shifts: tuple[int, ...] = (0,)
    shared: int = 1

    @cached_property
    def points(self) -> Floats:
        """Points before scaling, float32 [shifts, points, dim]."""
        meaning = np.array(self.fmt.table, np.float32) * np.float32(self.fmt.factor)
        points: Floats = meaning[self.grid + np.array(self.shifts, np.uint8)[:, None, None]]
        return points

    @cached_property
    def _matrix(self) -> Floats:
        """What (w x, c w) is multiplied with to get gains: float32 [shifts, 2 dim, points]."""
        both = np.concatenate([self.points, self.points * self.points / -2], axis=2)
        return np.ascontiguousarray(both.transpose(0, 2, 1))

    def fit(self, x: Floats, weight: Floats) -> Fit:
        """Return what is nearest to blocks.

        Parameters
        ----------
        x, weight : float32 [n, block_size]
            Values, their signs taken off if the format stores signs, and weights of errors.
        """
        search = _Search(self, x, weight)
        scale = search.best_scale()
        d = _half(scale.max(axis=-1, keepdims=True) / np.float32(2 * self.limit + 1))
        s = np.clip(np.rint((scale * inverse(d) - 1) / 2), 0, self.limit)
        numbers, shifts = search.nearest(d * (2 * s + 1))
        cross, square = search.sums(numbers, shifts)
        multiple = 2 * s + 1
        crosses = (cross * multiple).sum(axis=-1, keepdims=True)
        squares = (square * multiple * multiple).sum(axis=-1, keepdims=True)
        d = np.where(crosses > 0, _half(crosses * inverse(squares)), d)
        parts = (len(x), -1)
        return Fit(d, s.astype(np.uint8), numbers.reshape(parts), shifts.reshape(parts))

    def nearest(self, weighted: Floats, weight: Floats, scale: Floats) -> tuple[Numbers, Numbers]:
        """Return numbers and shifts, [m] each, of the points nearest to parts.

        Parameters
        ----------
        weighted, weight : float32 [m, dim]
            Weights times values, and weights.
        scale : float32 [m]
        """
        left = np.concatenate([weighted, weight * scale[:, None]], axis=1)
        n_shifts, width, n_points = self._matrix.shape
        numbers = np.empty((len(left), n_shifts), np.int64)
        gains = np.empty((len(left), n_shifts), np.float32)
        tile = min(32, _ONE_THREAD // (width * n_points))
        for start in range(0, len(left), _GAINS_AT_ONCE // n_points):
            rows = slice(start, start + _GAINS_AT_ONCE // n_points)
            for shift, matrix in enumerate(self._matrix):
                gain = (left[rows].reshape(-1, tile, width) @ matrix).reshape(-1, n_points)
                number = gain.argmax(axis=-1)
                numbers[rows, shift] = number
                gains[rows, shift] = gain[np.arange(len(gain)), number]
        total = gains.reshape(-1, self.shared, n_shifts).sum(axis=1)
        shifts = np.repeat(total.argmax(axis=-1), self.shared)
        return np.take_along_axis(numbers, shifts[:, None], axis=1)[:, 0], shifts


class _Search:
    """Blocks, cut into the parts of a lattice."""

    def __init__(self, lattice: Lattice, x: Floats, weight: Floats) -> None:
        self._lattice = lattice
        dim, group = lattice.grid.shape[1], lattice.fmt.group
        self._shape = (len(x), lattice.fmt.block_size // group)
        self._per_group = group // dim
        self._weight = weight.reshape(-1, dim)
        self._weighted = self._weight * x.reshape(-1, dim)
        self._peak = np.abs(x).reshape(*self._shape, group).max(axis=-1)

    def nearest(self, scale: Floats) -> tuple[Numbers, Numbers]:
        """Return the points nearest at scales [n, groups]."""
        spread_out = np.repeat(scale.reshape(-1), self._per_group)
        return self._lattice.nearest(self._weighted, self._weight, spread_out)

    def sums(self, numbers: Numbers, shifts: Numbers) -> tuple[Floats, Floats]:
        """Return sum(w x p) and sum(w p^2) of every group: what the best scale follows from."""
        points = self._lattice.points[shifts, numbers]
        cross = (self._weighted * points).reshape(*self._shape, -1).sum(axis=-1)
        return cross, (self._weight * points * points).reshape(*self._shape, -1).sum(axis=-1)

    def best_scale(self) -> Floats:
        """Return the scale of every group, [n, groups]; 0 where nothing is better than zeros."""
        best = np.zeros(self._shape, np.float32)
        gain = np.zeros_like(best)
        for start in self._lattice.starts:
            best, gain = self._better(self._peak / np.float32(start), best, gain)
        return self._better(best, best, gain)[0]

    def _better(self, scale: Floats, best: Floats, gain: Floats) -> tuple[Floats, Floats]:
        """Scales and gains where the points of `scale` are better than the best until now."""
        cross, square = self.sums(*self.nearest(scale))
        fitted = cross * inverse(square)
        new = cross * fitted
        better = (new > gain) & (cross > 0)
        return np.where(better, fitted, best), np.where(better, new, gain)


def weights_of_errors(x: Floats, importance: Floats | None) -> Floats:
    """Return the weights of errors, float32 like `x`; large values count more."""
    return spread(x, np.ones_like(x) if importance is None else importance, x)


def without_signs(x: Floats, weight: Floats, even: bool) -> tuple[Floats, Bytes]:
    """Return `x` [n, m] without signs, and the signs: uint8 [n, m / 8], bit j set for a minus.

    Where minuses among 8 must be `even`, the sign that costs least is wrong: its value is negative.
    """
    minus = np.signbit(x).reshape(-1, 8)
    size = np.abs(x)
    if even:
        odd = np.flatnonzero(minus.sum(axis=-1) & 1)
        least = (size * weight).reshape(-1, 8)[odd].argmin(axis=-1)
        minus[odd, least] ^= True
        size.reshape(-1, 8)[odd, least] *= -1
    return size, np.packbits(minus, axis=-1, bitorder="little").reshape(len(x), -1)


def _half(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)


def sign_words(signs: Bytes, s: Bytes) -> npt.NDArray[np.uint32]:
    """Return 32 bits for every group of 32: the numbers of 4 x 8 even signs (7 bits each), and s.

    Parameters
    ----------
    signs : uint8 [n, 4 * groups]
        As `without_signs` gives them.
    s : uint8 [n, groups]
        From 0 to 15.
    """
    words = s.astype("<u4") << np.uint32(28)
    for part in range(4):
        words |= (signs[:, part::4] & np.uint8(127)).astype("<u4") << np.uint32(7 * part)
    return words
