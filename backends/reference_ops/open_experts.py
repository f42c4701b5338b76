"""`open_experts`: see the file of this name in `cpu_ops`."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.backends.reference_ops import experts
from jitllm.kernels.reference.squares import square_sums


def run(run: Any, node: Node, x: Floats, logits: Floats, chosen: Floats | None = None) -> Floats:
    """Return what `experts` does with the products of `_Open`."""
    attrs = {**node.attrs, "scales": (None, None, None)}  # what is added is not scaled
    return experts.run(_Open(run, node), replace(node, attrs=attrs), x, logits, chosen)


class _Open:
    """A run whose products with experts are watched and added to."""

    def __init__(self, run: Any, node: Node) -> None:
        self._run, self.vector = run, run.vector
        names = ("squares", "scales", "adapters")
        parts = zip(*(node.attrs[name] for name in names), strict=True)
        self._parts = dict(zip(node.weights, parts, strict=False))

    def expert_matmul(self, x: Floats, ids: npt.NDArray[np.int32], name: str) -> Floats:
        """Return x w[e]^T for every expert e of `ids`, and what is added to it: [T, k, N]."""
        squares, scales, adapter = self._parts[name]
        if squares is not None:
            rows = x if x.ndim == 3 else np.repeat(x[:, None], ids.shape[1], axis=1)
            square_sums(rows.reshape(-1, x.shape[-1]), ids.reshape(-1), *squares)
        y: Floats = self._run.expert_matmul(x, ids, name)
        if scales is not None:
            y = y * scales[ids][..., None]
        if adapter is None:
            return y
        a, b, gain = adapter
        low = self._run.expert_matmul(x, ids, a) * gain
        return np.asarray(y + self._run.expert_matmul(low, ids, b))
