"""Rows of a table by tokens as an op."""

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, 0:n] = table[tokens[t], 0:n], float32.
TOKEN_TABLE = abi.Op("token_table", "token_table", ("table", "n", "y", "ldy"))


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    values = node.attrs["table"]
    table = aligned(values.nbytes).view(np.float32)
    table[:] = values.reshape(-1)
    lowering.constants.append(table)
    y, n = lowering.new(node.outputs[0]), node.outputs[0].width
    lowering.planner.emit(
        TOKEN_TABLE, [], [y], cost=n, table=table.ctypes.data, n=n, y=y, ldy=y.stride
    )
