"""Step 3.5 against llama.cpp's logits, also of a file that predicts further tokens."""

import dataclasses

import pytest
from driver import Runner, devices
from logits import (
    MAX_NMSE,
    WRONG_NMSE,
    Files,
    change,
    written_once,
)
from variants.written_gemma import WRITTEN, error, written_gemma

from jitllm.backends.ir import Graph

NAMES = [name for name in WRITTEN if name.startswith("step35")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a tiny model, written once."""
    return written_once(tmp_path_factory.mktemp("step35"), written_gemma)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(name, files(name), device) <= MAX_NMSE


def test_layers_that_predict_further_tokens_are_left_alone(files: Files) -> None:
    with Runner(files("step35"), "reference") as runner:
        own = [name for name in runner.graph.values() if name.startswith("blk.")]
        assert {name.split(".")[1] for name in own} == set("0123456")
        assert "blk.7.nextn.eh_proj.weight" in runner.model.unused
        assert not any(name.startswith("blk.6.") for name in runner.model.unused)


def _half_turned_everywhere(graph: Graph) -> Graph:
    by_heads = {node.attrs["n_heads"]: node for node in graph.nodes if node.op == "rope"}
    whole = by_heads[4].attrs["frequencies"]
    nodes = tuple(
        dataclasses.replace(node, attrs={**node.attrs, "n_rot": 16, "frequencies": whole})
        if node.op == "rope"
        else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes)


WRONG = {
    "rope in windows": _half_turned_everywhere,
    "gates of heads": change("gated", act="silu"),
    "bounds of experts": change("experts", r"blk\.5\.", bounds=(0.45, 0.0)),
    "form of the bounds": change("bounded_glu", act="swiglu_clamp"),
    "factor of experts": change("experts", factor=1.0),
    "gating": change("experts", gating="softmax"),
    "window": change("attention", r"blk\.[1235]\.", window=9),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    assert error("step35", files("step35"), edit=WRONG[what]) > WRONG_NMSE
