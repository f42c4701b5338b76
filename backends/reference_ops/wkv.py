"""`wkv` by its twin."""

from typing import Any

import numpy as np

from jitllm.backends._reference_states import over_segments
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels.reference import wkv as reference_wkv


def run(run: Any, node: Node, r: Floats, k: Floats, v: Floats, w: Floats, *more: Floats) -> Floats:
    """Return what the states' readers see; the states move on."""
    heads, key_heads, form = (node.attrs[key] for key in ("n_heads", "n_key_heads", "form"))
    out = np.empty((len(r), node.outputs[0].width), np.float32)

    def one(state: Floats, rows: slice) -> tuple[Floats, Floats]:
        erase, rate = (x[rows] for x in more) if more else (None, None)
        return reference_wkv.wkv(
            r[rows], k[rows], v[rows], w[rows], state.reshape(heads, r.shape[1] // heads, -1),
            form=form, n_key_heads=key_heads, erase=erase, rate=rate,
        )  # fmt: skip

    return over_segments(run, node, out, one)
