"""`ngram_embed`: rows of a table, chosen by hashes of the last tokens."""

import numpy as np

from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends._gpu.memory import row_bytes
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the rows; the numbers of the hashes are constants of the program."""
    attrs, w, y = node.attrs, lowering.weights[node.weights[0]], lowering.new(node.outputs[0])
    longest, n_hashes = len(attrs["multipliers"]), len(attrs["sizes"])
    parts = (attrs["multipliers"].view(np.int64), attrs["sizes"], attrs["offsets"])
    hashes = lowering.constant(np.concatenate(parts).astype(np.int64).view(np.float32))
    (states, slot_bytes), spans = lowering.state(node), -(-w.k // (32 * LANES))
    lowering.emit(
        f"ngram_embed.{w.type_name.lower()}",
        [Place("run", 0, 0), lowering.tokens, Place("", w.address, 0), hashes, states, y],
        [y.stride, w.k, row_bytes(w.type_name, w.k), spans, attrs["end"], slot_bytes], [y, states],
        groups=n_hashes * spans, rows="T", constants=(longest, n_hashes),
    )  # fmt: skip
