"""Experts: many matrices in files of transformers, one tensor in GGUF."""

import re
from collections.abc import Iterable, Iterator
from functools import partial

from jitllm.llm.convert._weights import Array, Weight, stacked
from jitllm.llm.errors import ModelFormatError

LAYER = {
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
SHARED = {
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
_EXPERT = re.compile(r"(.*\.experts\.)(\d+)\.(.+)")


def merged(weights: Iterable[tuple[str, Weight]], n_experts: int) -> Iterator[tuple[str, Weight]]:
    """Yield weights, with those of a layer's experts stacked when the last of them has come.

    Parameters
    ----------
    weights : iterable of (str, Weight)
        Experts are named `...experts.<number>.<part>`; together, `...experts.<part>`.
    n_experts : int

    Raises
    ------
    ModelFormatError
        If experts are missing.
    """
    waiting: dict[str, dict[str, dict[int, Weight]]] = {}
    for name, weight in weights:
        found = _EXPERT.fullmatch(name)
        if not found:
            yield name, weight
            continue
        parts = waiting.setdefault(found[1], {})
        parts.setdefault(found[3], {})[int(found[2])] = weight
        if len(parts) == 3 and all(len(part) == n_experts for part in parts.values()):
            yield from _stacked(found[1], waiting.pop(found[1]), n_experts)
    for prefix, parts in waiting.items():
        missing = [
            f"{prefix}{i}.{part}"
            for part, experts in parts.items()
            for i in range(n_experts)
            if i not in experts
        ]
        raise ModelFormatError(
            f"expected {n_experts} experts with gate, up and down in {prefix.rstrip('.')}, got "
            f"{sum(map(len, parts.values()))} matrices; missing: {', '.join(missing[:5])}"
        )


def _stacked(
    prefix: str, parts: dict[str, dict[int, Weight]], n_experts: int
) -> Iterator[tuple[str, Weight]]:
    for part in sorted(parts):
        yield prefix + part, stacked([parts[part][i] for i in range(n_experts)])


def apart(weights: Iterable[tuple[str, Weight]]) -> Iterator[tuple[str, Weight]]:
    """Yield weights, with gate and up apart where all experts are stored together."""
    for name, weight in weights:
        stem = name.removesuffix(".weight")
        base = stem.removesuffix("gate_up_proj")
        if base.endswith("experts."):
            yield base + "gate_proj.weight", weight.moved(partial(_half, upper=False))
            yield base + "up_proj.weight", weight.moved(partial(_half, upper=True))
        elif stem.endswith("experts.down_proj"):
            yield stem + ".weight", weight
        else:
            yield name, weight


def _half(array: Array, upper: bool) -> Array:
    """Return half of the rows of every expert."""
    n = array.shape[1] // 2
    return array[:, n:] if upper else array[:, :n]
