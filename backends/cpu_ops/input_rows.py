"""Float rows of a run: `CpuProgram` puts them where an op copies them from."""

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the copy."""
    y, width = lowering.new(node.outputs[0]), node.outputs[0].width
    values = aligned(y.stride * lowering.max_tokens).view(np.float32)
    rows = values.reshape(lowering.max_tokens, -1)
    lowering.input_rows.append(rows[:, :width])
    lowering.planner.emit(
        abi.SCALE, [], [y], cost=width, rows=abi.N_TOKENS, x=rows.ctypes.data, ldx=y.stride, y=y,
        ldy=y.stride, width=width, scale=1.0,
    )  # fmt: skip
