"""`compress` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_cache import remember, rows_and_positions
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import compress as reference_compress


def run(run: Any, node: Node, x: Floats, scores: Floats) -> Floats:
    """Return the compressed keys that end at rows [T, n]."""
    rules = {name: node.attrs[name] for name in ("ratio", "overlap", "ape")}
    window = rules["ratio"] * (2 if rules["overlap"] else 1)
    out = np.empty((len(x), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows, positions = rows_and_positions(segment)
        first = max(0, segment.position - window + 1)
        keys, values = remember(run, node, segment, x[rows], scores[rows], 1, first=first)
        out[rows] = reference_compress.compress(keys, values, first, positions, **rules)
    return out
