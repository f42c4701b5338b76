"""Mixtures of experts."""

from typing import Any

import numpy as np

from jitllm.backends.base import Floats
from jitllm.backends.ir import Node
from jitllm.kernels import reference as kernels
from jitllm.kernels.reference import gated as reference_gated

RULES = ("gating", "norm", "norm_min", "n_group", "topk_group", "experts_per_group")


def run(run: Any, node: Node, x: Floats, logits: Floats, chosen: Floats | None = None) -> Floats:
    """Return the weighted sum of each row's experts, [rows, n]."""
    gate, up, down, bias = node.weights
    attrs = node.attrs
    rules = {name: attrs[name] for name in RULES}
    ids, weights = kernels.top_k_experts(
        logits, attrs["k"], scale=attrs["factor"], bias=run.vector(bias), chosen=chosen, **rules
    )

    def product(z: Floats, part: int) -> Floats:
        y: Floats = run.expert_matmul(z, ids, node.weights[part])
        scales, biases = attrs["scales"][part], attrs["biases"][part]
        y = y if scales is None else y * scales[ids][..., None]
        return y if biases is None else y + biases[ids]

    if attrs["weigh_input"]:
        x = x[:, None] * weights[..., None]
        weights = np.ones_like(weights)
    h = product(x, 1)
    if attrs["fused"]:
        h = _gated(node, h[..., : h.shape[-1] // 2], h[..., h.shape[-1] // 2 :])
    elif gate:
        h = _gated(node, product(x, 0), h)
    else:
        h = kernels.activation(h, attrs["act"])
    y = product(h, 2).astype(np.float64)
    total: Floats = (y * weights[..., None]).sum(axis=1).astype(np.float32)
    return total


def _gated(node: Node, gate: Floats, up: Floats) -> Floats:
    act, bounds = node.attrs["act"], node.attrs["bounds"]
    if act in reference_gated.FORMS:
        return reference_gated.bounded_glu(gate, up, act, bounds)
    return kernels.glu(gate, up, act)
