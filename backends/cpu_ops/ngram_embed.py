"""`ngram_embed` as an op."""

from typing import Any

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# y[t, h] = W[hash h of the last tokens of row t]: see `reference_ngram`. W is packed, of k columns;
# `hashes` is int64 [longest + 2 * n_hashes]: multipliers, sizes and offsets. Factory parameter fmt.
NGRAM_EMBED = abi.Op(
    "ngram_embed", "ngram_embed",
    ("w", "k", "y", "ldy", "hashes", "longest", "n_hashes", "end", "states", "slot_bytes"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the op."""
    attrs, w, y = node.attrs, lowering.weights[node.weights[0]], lowering.new(node.outputs[0])
    parts = (attrs["multipliers"].view(np.int64), attrs["sizes"], attrs["offsets"])
    hashes = np.concatenate(parts).astype(np.int64)
    lowering.constants.append(hashes)
    memory: dict[str, Any] = {**lowering.state_words(node)}
    n_hashes = len(attrs["sizes"])
    lowering.planner.emit(
        NGRAM_EMBED, [], [y], cost=32 * w.k * n_hashes, params={"fmt": w.type_name},
        w=w.address, k=w.k, y=y, ldy=y.stride, hashes=hashes.ctypes.data,
        longest=len(attrs["multipliers"]), n_hashes=n_hashes, end=attrs["end"], **memory,
    )  # fmt: skip
