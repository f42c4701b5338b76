"""`ngram_embed` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels
from jitllm.kernels.reference import ngram as reference_ngram


def run(run: Any, node: Node) -> Floats:
    """Return the rows, and remember the last tokens of every sequence."""
    attrs, states, w = node.attrs, run.backend.states, run.backend.weights[node.weights[0]]
    hashes = {name: attrs[name] for name in ("multipliers", "sizes", "offsets", "end")}
    (n_rows, width), n_before = w.shape, len(attrs["multipliers"]) - 1
    out = np.empty((len(run.batch.tokens), node.outputs[0].width), np.float32)
    for segment in run.batch.segments:
        rows = slice(segment.row, segment.row + segment.rows)
        tokens, before = run.batch.tokens[rows].astype(np.int64), np.full(n_before, -1)
        if segment.state_in >= 0:
            before = states.read(segment.state_in, attrs["state"]).astype(np.int64) - 1
        ids = reference_ngram.ngram_rows(tokens, before, **hashes)
        out[rows] = kernels.embed(ids.reshape(-1), w.type_name, w.data, (n_rows, width)).reshape(
            len(tokens), -1
        )
        last = np.concatenate([tokens[::-1], before])[:n_before]
        states.write(segment.state_out, attrs["state"], (last + 1).astype(np.float32))
    return out
