"""Compressed keys as ops: write what they are made of, make those that end here."""

import numpy as np

from jitllm.backends._cpu import sparse
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# See `kernels/cpu/compress.py`; ape is float32 [ratio, width]. Factory parameter kv.
COMPRESS = abi.Op(
    "compress", "compress",
    ("y", "ldy", "width", "n", "pages", "page_bytes", "cache", "ratio", "overlap", "ape"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    attrs, (x, scores) = node.attrs, (lowering.buffer(value) for value in node.inputs)
    sparse.write(lowering, node, x, scores)
    words, pages = sparse.place(lowering, node)
    ape = aligned(attrs["ape"].nbytes).view(np.float32)
    ape[:] = attrs["ape"].reshape(-1)
    lowering.constants.append(ape)
    y, out = lowering.new(node.outputs[0]), node.outputs[0]
    lowering.planner.emit(
        COMPRESS, [pages], [y], cost=40 * out.width,
        params={"kv": lowering.pools[attrs["cache"]].kv_dtype}, y=y, ldy=y.stride,
        width=node.inputs[0].width, n=out.width, ratio=attrs["ratio"],
        overlap=int(attrs["overlap"]), ape=ape.ctypes.data, **words,
    )  # fmt: skip
