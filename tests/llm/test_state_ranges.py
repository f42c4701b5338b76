"""Cells of chosen blocks and tokens, saved and put back without the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.errors import StateError
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.views import places
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune
from jitllm.llm.state_files.ranges import ranges

_TOKENS = [1, *range(3, 202)]
_BLOCKS = range(5)


@pytest.fixture(scope="module", params=["f16", "q8_0"])
def model(request: pytest.FixtureRequest) -> Iterator[jitllm.Model]:
    """Stories' heads have 8 numbers, too few for blocks; SmolLM2's have 64."""
    name = "stories260K" if request.param == "f16" else "smollm2"
    kv_dtype = request.param
    with jitllm.load(
        model_path(name), n_ctx=512, n_threads=1, kv_dtype=kv_dtype, progress=False
    ) as model:
        yield model


def _cells(sequence: Sequence) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.asarray(sequence.kv[b].k), np.asarray(sequence.kv[b].v)) for b in _BLOCKS]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
@given(
    blocks=st.sets(st.sampled_from(_BLOCKS), min_size=1),
    cells=st.tuples(st.integers(0, 199), st.integers(1, 200)).filter(lambda c: c[0] < c[1]),
)
def test_just_these_cells_come_back(
    model: jitllm.Model, tmp_path: Path, blocks: set[int], cells: tuple[int, int]
) -> None:
    path, (start, stop) = tmp_path / "cells.state", cells
    path.unlink(missing_ok=True)
    with model.sequence(_TOKENS) as sequence, sequence.fork() as twin:
        before = _cells(sequence)
        sequence.save_cells(path, blocks=blocks, start=start, stop=stop, sync=False)
        for block in _BLOCKS:
            sequence.kv[block].k[:] = 0
            sequence.kv[block].v[:] = 0
        sequence.restore_cells(path)
        for block, (now, was) in enumerate(zip(_cells(sequence), before, strict=True)):
            for a, b in zip(now, was, strict=True):
                held = slice(start, stop) if block in blocks else slice(0, 0)
                assert np.array_equal(a[held], b[held])
                assert not np.delete(a, held, 0).any()
        for now, was in zip(_cells(twin), before, strict=True):  # forks saw nothing of it
            assert all(np.array_equal(a, b) for a, b in zip(now, was, strict=True))


def test_all_cells_are_the_sequence(model: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "cells.state"
    with model.sequence(_TOKENS) as sequence, model.sequence(_TOKENS) as fresh:
        sequence.save_cells(path, label="all")
        for layer in sequence.kv:
            layer.k[:] = 1
        sequence.restore_cells(path, "all").append([5])
        assert np.array_equal(sequence.logits, fresh.append([5]).logits)
    assert model.memory()["caches_used"] == 0


def test_they_live_beside_checkpoints(model: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "both.state"
    with model.sequence(_TOKENS) as sequence:
        sequence.save(path, label="one")
        sequence.save_cells(path, blocks=[2], start=10, stop=90, label="part")
        sequence.append([7]).save(path, label="two")
        prune(path, keep=[2])
        with StateFile(path) as file:
            assert [c.label for c in file.checkpoints] == ["two"]
            (found,) = ranges(file)
        assert (found.label, found.blocks, found.start, found.stop) == ("part", (2,), 10, 90)
        sequence.restore_cells(path, "part")
        with model.load_sequence(path) as loaded:
            assert np.array_equal(loaded.append([3]).logits, sequence.append([3]).logits)


def test_refusals_change_nothing(model: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "cells.state"
    with model.sequence(_TOKENS) as sequence, model.sequence([1, *_TOKENS[:-1]]) as other:
        wrongs: tuple[dict[str, Any], ...]
        wrongs = ({"blocks": [99]}, {"start": 5, "stop": 5}, {"stop": 201}, {"blocks": []})
        for wrong in wrongs:
            with pytest.raises(StateError, match="expected blocks among"):
                sequence.save_cells(path, **wrong)
        assert not path.exists()
        place = sequence.save_cells(path, start=60, stop=70, label="x").record
        before = _cells(other)
        with pytest.raises(StateError, match="begins with the 70 tokens"):
            other.restore_cells(path)
        with pytest.raises(StateError, match="expected cells 'y', the file has"):
            sequence.restore_cells(path, "y")
        content = bytearray(path.read_bytes())
        content[place.entries["block.4.64-70"].start] ^= 1
        path.write_bytes(content)
        mine = _cells(sequence)
        with pytest.raises(StateError, match="checksum"):
            sequence.restore_cells(path)
        for sequence_, cells in ((other, before), (sequence, mine)):
            for now, was in zip(_cells(sequence_), cells, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(now, was, strict=True))


def test_cells_that_a_window_dropped(tmp_path: Path) -> None:
    path = conformance_model("gemma3-dense.gqa", tmp_path / "model.gguf")
    with (
        jitllm.load(path, n_ctx=1024, n_threads=1, progress=False) as model,
        model.sequence([i % 100 for i in range(900)]) as sequence,
    ):
        dropped = [b for b in places(model.engine.graph) if sequence.kv[b].first]
        assert dropped
        with pytest.raises(StateError, match="fell out of the sliding window"):
            sequence.save_cells(tmp_path / "w.state", blocks=dropped[:1])
        first = sequence.kv[dropped[0]].first
        sequence.save_cells(tmp_path / "w.state", blocks=dropped[:1], start=first)
        sequence.restore_cells(tmp_path / "w.state")
