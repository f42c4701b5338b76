"""Which columns a thread of an elementwise kernel has."""

from jitllm.kernels.cuda._layout import ELEMENTS
from jitllm.kernels.gpu.vocabulary import group_of_row, inline, thread

LANES = 64  # threads of a workgroup in the kernels that the shared lowering drives
QUAD = ELEMENTS // LANES  # columns of a thread that has several


@inline
def column():
    """Return the column of a thread where workgroups have LANES threads, one for each column."""
    return group_of_row() * LANES + thread()
