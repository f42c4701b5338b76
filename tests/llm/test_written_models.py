"""Logits of architectures that the conformance set lacks: bitnet, apertus."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from variants.written import written_golden, written_model

from jitllm.backends.ir import Graph

MAX_NMSE = 1e-6
WRONG_NMSE = 1e-5  # any wrong detail is above


def _same(graph: Graph) -> Graph:
    return graph


def error(
    folder: Path, name: str, device: str = "reference", edit: Callable[[Graph], Graph] = _same
) -> float:
    """NMSE of the last 16 logits: 20 tokens in one run, then 8 single ones."""
    golden, path = written_golden(name), written_model(name, folder / f"{name}.gguf")
    tokens = golden["tokens"]
    with Runner(path, device, edit=edit) as runner:
        runs = [runner.forward(tokens[:20])]
        runs += [runner.forward(tokens[i : i + 1], i) for i in range(20, 28)]
    return nmse(np.concatenate(runs)[-16:], golden["logits"])


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", ["bitnet", "apertus"])
def test_logits_are_those_of_llama_cpp(tmp_path: Path, name: str, device: str) -> None:
    assert error(tmp_path, name, device) <= MAX_NMSE


def _change(op: str, **attrs: Any) -> Callable[[Graph], Graph]:
    """An edit that sets attributes of all nodes of one operation."""

    def edit(graph: Graph) -> Graph:
        nodes = tuple(
            dataclasses.replace(node, attrs={**node.attrs, **attrs}) if node.op == op else node
            for node in graph.nodes
        )
        return dataclasses.replace(graph, nodes=nodes)

    return edit


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("apertus", _change("xielu", beta=0.5)),
        ("apertus", _change("xielu", eps=-1e-6)),
        ("apertus", _change("rope", kind="norm")),
        ("bitnet", _change("rope", kind="norm")),
        ("bitnet", _change("rms_norm", eps=1e-3)),
        ("bitnet", _change("scale", factor=1.0)),
    ],
)
def test_a_wrong_detail_is_seen(tmp_path: Path, name: str, edit: Any) -> None:
    assert error(tmp_path, name, edit=edit) > WRONG_NMSE
