"""Twin of `cpu.pad_columns`."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def pad_columns(x: Floats, before: int, number: float) -> Floats:
    """Return x [T, width] behind `before` columns of `number`: float32 [T, before + width]."""
    return np.pad(x, ((0, 0), (before, 0)), constant_values=np.float32(number))
