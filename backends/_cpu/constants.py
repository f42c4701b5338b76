"""Arrays of a graph's attributes where compiled kernels can read them."""

import numpy as np
import numpy.typing as npt

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.base import Floats


def constant(lowering: Lowering, values: Floats | None) -> tuple[int, int]:
    """Return address and bytes from row to row of a copy whose rows are whole cache lines.

    The plan keeps the copy. Columns behind the last are 0; no array gives (0, 0).
    """
    if values is None:
        return 0, 0
    rows = np.atleast_2d(values)
    width = -(-rows.shape[1] // 16) * 16
    copy: npt.NDArray[np.float32] = aligned(4 * width * len(rows)).view(np.float32)
    copy = copy.reshape(len(rows), width)
    copy[:, : rows.shape[1]] = rows
    lowering.constants.append(copy)
    return int(copy.ctypes.data), 4 * width
