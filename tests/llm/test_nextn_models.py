"""Blocks that predict further tokens, against llama.cpp's logits and hidden rows."""

from pathlib import Path

import numpy as np
import pytest
from driver import devices, nmse
from logits import Files, written_once
from numpy.typing import NDArray
from tiny import conformance_model
from variants.nextn import NAMES, nextn_golden, nextn_model

from jitllm.backends.base import PAGE_TOKENS, Backend, Batch, Segment
from jitllm.backends.ir import Graph
from jitllm.llm.errors import ModelFormatError, UnsupportedArchitecture
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model

MAX_NMSE = 1e-6
WRONG_NMSE = 1e-4
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a variant, written once."""
    return written_once(tmp_path_factory.mktemp("nextn"), nextn_model)


def run(
    backend: Backend, graph: Graph, tokens: NDArray[np.int32], hidden: Floats | None = None
) -> tuple[Floats, Floats]:
    """Logits and hidden rows of all tokens: 20 in one run, then single ones."""
    pools = [backend.new_pool(spec, 1, "f32") for spec in graph.caches]
    if graph.states:
        backend.new_states(graph.states, 2)
    program = backend.compile(
        graph, pools, max_tokens=PAGE_TOKENS, taps=frozenset({graph.hidden})
    )  # fmt: skip
    tables = [np.zeros(1, np.int32) for _ in pools]
    logits, rows, slots = [], [], (-1, 0)
    for start, stop in [(0, 20)] + [(i, i + 1) for i in range(20, len(tokens))]:
        positions = np.arange(start, stop, dtype=np.int32)
        every = positions - np.int32(start)
        segment = Segment(0, len(every), start, tables, *slots)
        given = None if hidden is None else hidden[start:stop]
        batch = Batch(tokens[start:stop], positions, every, [segment], given)
        logits.append(program.run(batch, lambda _, values: rows.append(values.copy())))
        slots = slots[1], 1 - slots[1]
    program.close()
    for pool in pools:
        pool.close()
    return np.concatenate(logits), np.concatenate(rows)


def before(hidden: Floats) -> Floats:
    """The hidden rows of the positions before."""
    return np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])


def errors(path: Path, name: str, device: str) -> dict[str, float]:
    """NMSE of every recorded array of the model and its blocks."""
    golden = nextn_golden(name)
    with GGUFFile(path) as file:
        model = open_model(file, device, n_ctx=64, precision="exact", mtp=True)
    _, hidden = run(model.backend, model.graph, golden["tokens"])
    got = {"hidden": hidden}
    for block, graph in enumerate(model.mtp):
        logits, hidden = run(model.backend, graph, golden["tokens"], before(hidden))
        got |= {f"logits.{block}": logits, f"hidden.{block}": hidden}
    model.backend.close()
    assert got.keys() == golden.keys() - {"tokens"}
    return {key: nmse(values[-len(golden[key]) :], golden[key]) for key, values in got.items()}


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_what_llama_cpp_gives(files: Files, name: str, device: str) -> None:
    found = errors(files(name), name, device)
    assert max(found.values()) <= MAX_NMSE, found


def test_hidden_rows_are_those_of_the_position_before(files: Files) -> None:
    golden = nextn_golden("qwen35")
    with GGUFFile(files("qwen35")) as file:
        model = open_model(file, "reference", precision="exact", n_ctx=64, mtp=True)
    _, hidden = run(model.backend, model.graph, golden["tokens"])
    logits, _ = run(model.backend, model.mtp[0], golden["tokens"], hidden)
    model.backend.close()
    assert nmse(logits[-16:], golden["logits.0"]) > WRONG_NMSE


def test_blocks_differ(files: Files) -> None:
    with GGUFFile(files("hy_v3")) as file:
        model = open_model(file, "reference", n_ctx=64, mtp=True)
    model.backend.close()
    first, second = ({w for node in g.nodes for w in node.weights if w} for g in model.mtp)
    assert {w for w in first & second if w.startswith("blk.")} == set()
    assert not any("nextn" in name for name in model.unused)


def test_without_blocks(files: Files, tmp_path: Path) -> None:
    """They are neither built nor loaded unless asked for; a model without them says so."""
    with GGUFFile(files("qwen35")) as file:
        model = open_model(file, "reference", n_ctx=64)
    assert not model.mtp and "blk.2.nextn.eh_proj.weight" in model.unused
    assert model.graph.hidden == "" and model.graph.values()["output_norm"].rows == "O"
    model.backend.close()
    bare, other = tmp_path / "bare.gguf", tmp_path / "other.gguf"
    with (
        GGUFFile(conformance_model("qwen35-dense", bare)) as file,
        pytest.raises(ModelFormatError, match=r"blk\.2\.nextn\.eh_proj.*no block 0"),
    ):
        open_model(file, "reference", mtp=True)
    with (
        GGUFFile(conformance_model("llama-dense", other)) as file,
        pytest.raises(UnsupportedArchitecture, match="predict further tokens.*'llama'"),
    ):
        open_model(file, "reference", mtp=True)


@pytest.mark.parametrize("device", devices())
def test_a_block_without_hidden_rows(files: Files, device: str) -> None:
    with GGUFFile(files("qwen35")) as file:
        model = open_model(file, device, n_ctx=64, mtp=True)
    for hidden in (None, np.zeros((28, 255), np.float32)):
        with pytest.raises(ValueError, match="expected hidden rows of shape"):
            run(model.backend, model.mtp[0], nextn_golden("qwen35")["tokens"], hidden)
    model.backend.close()
