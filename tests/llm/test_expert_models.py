"""Mixtures of experts against llama.cpp's logits, and whether wrong details are seen."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import devices
from logits import (
    MAX_NMSE,
    WRONG_NMSE,
    Edit,
    logits_error,
)
from variants import variant_golden, variant_model
from variants.experts import EXPERT_VARIANTS

from jitllm.backends.ir import Graph, Node
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models import afmoe
from jitllm.llm.models.loading import open_model


def error(path: Path, name: str, device: str = "cpu", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, variant_golden(name), device, **options)


def _edit(op: str, change: Callable[[Node], Node]) -> Edit:
    """An edit that changes all nodes of one operation."""

    def edit(graph: Graph) -> Graph:
        nodes = (change(node) if node.op == op else node for node in graph.nodes)
        return dataclasses.replace(graph, nodes=tuple(nodes))

    return edit


def _attrs(op: str, **attrs: Any) -> Edit:
    return _edit(op, lambda node: dataclasses.replace(node, attrs={**node.attrs, **attrs}))


def _without_weight(op: str, index: int) -> Edit:
    def change(node: Node) -> Node:
        weights = list(node.weights)
        weights[index] = ""
        return dataclasses.replace(node, weights=tuple(weights))

    return _edit(op, change)


WRONG: dict[str, dict[str, Edit]] = {
    "qwen2moe": {
        "weights": _attrs("experts", norm=True),
        "gate of the shared expert": _attrs("gated", act="silu"),
    },
    "bailingmoe2-groups": {
        "groups": _attrs("experts", n_group=1, topk_group=1),
        "bias of the choice": _without_weight("experts", 3),
        "factor": _attrs("experts", factor=1.0),
    },
    "gpt-oss-windows": {
        "gating": _attrs("experts", gating="softmax"),
        "biases": _attrs("experts", biases=(None,) * 3),
        "bounds": _attrs("experts", bounds=(1.0, 1.702)),
        "sinks": _without_weight("attention", 0),
    },
    "grovemoe-groups": {"used": _attrs("experts", k=1)},
    "llama4": {
        "weights before": _attrs("experts", weigh_input=False),
        "pairs": _attrs("rope", kind="neox"),
    },
    "maple-bounds": {"bounds": _attrs("experts", bounds=(7.0, 0.0))},
    "mellum-windows": {"scales": _attrs("experts", scales=(None,) * 3)},
    "grok-caps": {
        "cap of scores": _attrs("attention", soft_cap=30.0),
        "activation": _attrs("experts", act="silu"),
    },
    "laguna-windows": {"gates": _attrs("gated", act="sigmoid")},
    "dbrx-bounds": {"bounds": _attrs("clamp", bound=9.0)},
}


@pytest.mark.parametrize("name", EXPERT_VARIANTS)
def test_logits_are_those_of_llama_cpp(tmp_path: Path, name: str) -> None:
    path = variant_model(name, tmp_path / "model.gguf")
    errors = {device: error(path, name, device) for device in devices()}
    wrong = {what: error(path, name, edit=edit) for what, edit in WRONG.get(name, {}).items()}
    for file in tmp_path.iterdir():
        file.unlink()  # all of them are a gigabyte
    assert max(errors.values()) <= MAX_NMSE, errors
    assert all(value > WRONG_NMSE for value in wrong.values()), wrong


def test_layers_without_rope_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = variant_model("afmoe-windows", tmp_path / "model.gguf")
    monkeypatch.setattr(afmoe, "NO_ROPE_EVERY", 5)
    assert error(path, "afmoe-windows") > WRONG_NMSE


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("grovemoe.experts_per_group", 3, "expected a number that divides 8 experts, got 3"),
        ("grovemoe.expert_used_count", 9, "expected 1 to 8, got 9"),
    ],
)
def test_wrong_numbers_of_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: int, message: str
) -> None:
    variant = EXPERT_VARIANTS["grovemoe-groups"]
    changed = {**variant.metadata, key.partition(".")[2]: value}
    replaced = dataclasses.replace(variant, metadata=changed)
    monkeypatch.setitem(EXPERT_VARIANTS, "grovemoe-groups", replaced)
    path = variant_model("grovemoe-groups", tmp_path / "model.gguf")
    with GGUFFile(path) as file, pytest.raises(ModelFormatError, match=message):
        open_model(file, "reference")
