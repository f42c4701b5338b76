"""Tables of the lattice types IQ1, IQ2 and IQ3: which levels 8 (or 4) neighbouring weights take.

`grids.npz` holds, per type, the level numbers uint8 [points, weights]; they are constants of the
file format, as are the signs.
"""

from functools import cache
from pathlib import Path

import numpy as np

from jitllm.kernels.formats import Bytes


def _signs() -> Bytes:
    """Return 8 signs for each of 128 numbers: 7 free ones, the last makes the minuses even."""
    numbers = np.arange(128, dtype=np.uint8)
    parity = np.bitwise_xor.reduce(numbers >> np.arange(7, dtype=np.uint8)[:, None] & 1, axis=0)
    return np.asarray(numbers | parity << 7, np.uint8)


SIGNS = _signs()  # uint8 [128], bit j set: weight j has a minus


@cache
def grid(name: str) -> Bytes:
    """Return the level numbers of a lattice, uint8 [points, weights]."""
    with np.load(Path(__file__).with_name("grids.npz")) as file:
        return np.array(file[name])
