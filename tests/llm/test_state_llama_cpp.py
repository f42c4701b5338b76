"""State files of llama.cpp: what it saved goes on here, what is written here is what it reads."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.cli import cli
from jitllm.llm.errors import (
    ContextLengthExceeded,
    JitllmError,
    StateError,
    UnsupportedArchitecture,
)
from jitllm.llm.state_files import llama_cpp
from jitllm.llm.state_files.llama_cpp_memory import memory_of

_DATA = Path(__file__).parent.parent / "data" / "state_llama_cpp.npz"
_FILES = ("plain.ggsq", "plain.ggsn", "flash.ggsq", "flash.ggsn")


@pytest.fixture(scope="module")
def stories() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), n_ctx=128, n_threads=1, progress=False) as model:
        yield model


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    with np.load(_DATA) as data:
        return dict(data)


def _written(recorded: dict[str, Any], name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(recorded[name].tobytes())
    return path


def _layers(sequence: jitllm.Sequence) -> list[Any]:
    return [part for layer in sequence.kv for part in layer.read()]


@pytest.mark.parametrize("name", _FILES)
def test_what_llama_cpp_saved_goes_on(
    stories: jitllm.Model, recorded: dict[str, Any], name: str, tmp_path: Path
) -> None:
    tokens, following = recorded["tokens"].tolist(), int(recorded["next"])
    path = _written(recorded, name, tmp_path)
    with llama_cpp.load(stories, path) as found, stories.sequence(tokens) as own:
        assert found.token_ids == tokens and not found.n_pending
        for theirs, ours in zip(_layers(found), _layers(own), strict=True):
            assert np.allclose(theirs, ours, rtol=2e-3, atol=0.01)
        logits = found.append([following]).logits
        assert np.abs(logits - recorded[f"{name[:5]}.logits"]).max() < 0.02
        assert np.abs(logits - own.append([following]).logits).max() < 0.02


@pytest.mark.parametrize("name", _FILES)
def test_bytes_are_those_of_llama_cpp(
    stories: jitllm.Model, recorded: dict[str, Any], name: str, tmp_path: Path
) -> None:
    path, again = _written(recorded, name, tmp_path), tmp_path / "again"
    with llama_cpp.load(stories, path) as found:
        flash = name.startswith("flash")
        llama_cpp.save(found, again, session=name.endswith("n"), flash_attention=flash)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["again", name])


@pytest.mark.parametrize("kv_dtype", ["f16", "f32"])
@pytest.mark.parametrize("name", ["llama-dense.gqa", "gemma3-dense.gqa", "qwen2-dense.gqa"])
@pytest.mark.parametrize("n_tokens", [1, 20, 64, 100, 500])
def test_what_is_written_comes_back(
    name: str, kv_dtype: str, n_tokens: int, tmp_path: Path
) -> None:
    model_file = conformance_model(name, tmp_path / "model.gguf")
    with jitllm.load(
        model_file, n_ctx=512, n_threads=1, kv_dtype=kv_dtype, progress=False
    ) as model:
        rng = np.random.default_rng(3)
        tokens = [int(t) for t in rng.integers(0, model.n_vocab, n_tokens)]
        with model.sequence(tokens) as sequence:
            expected = sequence.fork().append([5]).logits
            for session in (False, True):
                for flash in (False, True):
                    for n_stream in (1, 3):
                        path = tmp_path / "state"
                        llama_cpp.save(
                            sequence, path, session=session, flash_attention=flash,
                            n_stream=n_stream,
                        )  # fmt: skip
                        with llama_cpp.load(model, path) as found:
                            assert found.token_ids == tokens and not found.n_pending
                            assert np.array_equal(found.append([5]).logits, expected)


def test_a_window_without_whole_pages_goes_on(tmp_path: Path) -> None:
    """llama.cpp drops single cells: what was never there is neither shown nor seen after cuts."""
    model_file = conformance_model("gemma3-dense.gqa", tmp_path / "model.gguf")
    with jitllm.load(model_file, n_ctx=512, n_threads=1, progress=False) as model:
        tokens = [int(t) for t in np.random.default_rng(3).integers(0, model.n_vocab, 300)]
        with model.sequence(tokens) as own:
            llama_cpp.save(own, tmp_path / "state")
            last, expected = own.logits, own.append([5]).logits
            expected_keys = own.kv[0].k[-33:-1]
        with llama_cpp.load(model, tmp_path / "state") as found:
            assert not found.n_pending and found.kv[0].first == 300 - 32
            assert np.array_equal(found.kv[0].k[...], expected_keys)
            found.kv[0].v[3:5] = found.kv[0].v[3:5]  # goes back to the same cells
            found.save(tmp_path / "own.state")
            assert np.array_equal(found.fork().logits, last)
            assert np.array_equal(found.fork().append([5]).logits, expected)
        with model.load_sequence(tmp_path / "own.state") as again:
            assert not again.n_pending and again.kv[0].first == 300 - 32
            assert np.array_equal(again.fork().append([5]).logits, expected)
            cut = again.truncate(298)
            assert cut.n_pending == 298
            assert np.array_equal(cut.logits, model.sequence(tokens[:298]).logits)


def test_a_window_with_less_is_computed_again(tmp_path: Path) -> None:
    model_file = conformance_model("gemma3-dense.gqa", tmp_path / "model.gguf")
    with jitllm.load(model_file, n_ctx=512, n_threads=1, progress=False) as model:
        tokens = [int(t) for t in np.random.default_rng(3).integers(0, model.n_vocab, 300)]
        memory = memory_of(model)
        narrow = [replace(part, window=min(part.window, 20)) for part in memory.caches]
        with model.sequence(tokens) as sequence, pytest.MonkeyPatch.context() as patch:
            less = replace(memory, caches=tuple(narrow))
            patch.setattr(llama_cpp, "memory_of", lambda _: less)
            llama_cpp.save(sequence, tmp_path / "state")
        with llama_cpp.load(model, tmp_path / "state") as found, model.sequence(tokens) as own:
            assert found.n_pending == len(found) == 300
            assert np.array_equal(found.logits, own.logits)


def test_a_sequence_of_several(
    stories: jitllm.Model, recorded: dict[str, Any], tmp_path: Path
) -> None:
    """Cells of other sequences lie between; some belong to both."""
    path = _written(recorded, "flash.ggsq", tmp_path)
    with llama_cpp.load(stories, path) as found:
        expected = _layers(found)
    content = recorded["flash.ggsn"].tobytes()
    cells = content.index(b"llama") + 5 + 8
    meta = np.frombuffer(content, "<i4", 3 * 11, cells).reshape(11, 3).copy()
    meta[:, 2] = 4
    moved = bytearray(content)
    moved[cells : cells + meta.nbytes] = meta.tobytes()
    path.write_bytes(moved)
    with llama_cpp.load(stories, path, seq_id=4) as found:
        assert all(map(np.array_equal, _layers(found), expected))
    with llama_cpp.load(stories, path, seq_id=1) as found:  # no cells: all is computed
        assert found.n_pending == 11


@pytest.mark.parametrize("name", _FILES)
def test_wrong_files_are_refused(
    stories: jitllm.Model, recorded: dict[str, Any], name: str, tmp_path: Path
) -> None:
    whole, path = recorded[name].tobytes(), tmp_path / "state"
    rng, n_errors = random.Random(1), 0
    for length in (*range(0, 400, 7), *range(400, len(whole), 997)):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError):
            llama_cpp.load(stories, path)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(min(len(content), rng.choice((300, len(content)))))
            content[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(content)
        try:
            llama_cpp.load(stories, path).close()
        except JitllmError:
            n_errors += 1
    assert n_errors > 20
    assert stories.memory()["caches_used"] == 0


def test_other_models_are_refused(
    stories: jitllm.Model, recorded: dict[str, Any], tmp_path: Path
) -> None:
    path = _written(recorded, "plain.ggsq", tmp_path)
    for name, error in (
        ("llama-dense.gqa", StateError), ("mamba2-dense", StateError), ("jamba-dense", StateError),
        ("qwen4exp-moe.routed", UnsupportedArchitecture),
    ):  # fmt: skip
        model_file = conformance_model(name, tmp_path / "model.gguf")
        with jitllm.load(model_file, n_ctx=64, n_threads=1, progress=False) as model:
            with pytest.raises(error):
                llama_cpp.load(model, path)
            assert model.memory()["caches_used"] == 0
    small = jitllm.load(model_path("stories260K"), n_ctx=8, n_threads=1, progress=False)
    with small, pytest.raises(ContextLengthExceeded, match="at most 8 tokens, got 11"):
        llama_cpp.load(small, path)


def test_commands(stories: jitllm.Model, recorded: dict[str, Any], tmp_path: Path) -> None:
    runner, model = CliRunner(), str(model_path("stories260K"))
    path, ours, again = _written(recorded, "flash.ggsn", tmp_path), tmp_path / "o", tmp_path / "a"
    done = runner.invoke(
        cli, ["state", "import", model, str(path), str(ours), "--label", "there", "-q"]
    )
    assert done.exit_code == 0 and "11 tokens" in done.stdout
    with stories.load_sequence(ours, "there") as found:
        assert found.token_ids == recorded["tokens"].tolist() and not found.n_pending
    done = runner.invoke(cli, ["state", "export", model, str(ours), str(again), "--session", "-q"])
    assert done.exit_code == 0
    assert again.read_bytes() == path.read_bytes()
