"""What llama.cpp's tests of states ask for; where those allow a tolerance, here bits are equal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm
from jitllm.backends.base import PAGE_TOKENS
from jitllm.llm.errors import BackendError, JitllmError
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.together import compute_together
from jitllm.llm.state_files.checkpoint import Checkpoint
from jitllm.llm.state_files.file import StateFile

Logits = NDArray[np.float32]

N_NEW = 16
_RECURRENT = ("mamba2-dense", "jamba-dense", "falcon-h1-dense.gqa", "qwen3next-moe.routed")
_TINY = ("llama-dense.gqa", "gemma3-dense.gqa", "deepseek2-moe.routed", *_RECURRENT)


@pytest.fixture(scope="module", params=_TINY)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conformance_model(request.param, tmp_path_factory.mktemp("state") / "model.gguf")


def _load(file: Path) -> jitllm.Model:
    return jitllm.load(file, n_ctx=512, n_threads=1, progress=False)


@pytest.fixture(scope="module")
def model(file: Path) -> Iterator[jitllm.Model]:
    with _load(file) as model:
        yield model


def _tokens(model: jitllm.Model, n: int, seed: int = 1) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(t) for t in rng.integers(0, model.n_vocab, n)]


def _replay(sequence: Sequence, tokens: list[int]) -> list[Logits]:
    """Logits behind tokens, and behind the likeliest ones that follow."""
    for token in tokens:
        sequence.append([token])
    found = [sequence.logits]
    while len(found) < N_NEW:
        found.append(sequence.append([int(found[-1].argmax())]).logits)
    return found


def _arrays(path: Path, which: int | None = None) -> dict[str, bytes]:
    """The bytes of all arrays of a checkpoint that was saved to a file of its own."""
    with StateFile(path) as file:
        found = file.get(which)
        return {name: file.array(found, name).tobytes() for name in found.record.entries}


def _saved(sequence: Sequence, path: Path) -> Checkpoint:
    path.unlink(missing_ok=True)
    return sequence.save(path, sync=False)


def _scattered(model: jitllm.Model, tokens: list[int]) -> tuple[Sequence, list[Sequence]]:
    """A sequence whose pages lie between those of others, and the others."""
    sequences = [model.sequence() for _ in range(3)]
    for start in range(0, len(tokens), 20):
        for sequence in sequences:
            sequence.append(tokens[start : start + 20])
    return sequences[1], [sequences[0], sequences[2]]


def test_the_nine_steps(file: Path, model: jitllm.Model, tmp_path: Path) -> None:
    tokens, path, again = _tokens(model, 150), tmp_path / "one.state", tmp_path / "again.state"
    last = tokens[-1:]
    with model.sequence(tokens[:-1]) as base, model.sequence(_tokens(model, 100, 2)) as other:
        _saved(base, path)
        before, other_logits = _arrays(path), other.logits
        with base.fork() as sequence:  # also 5: a copy that stays in the caches
            expected = _replay(sequence, last)  # 1
        other.truncate(10)
        with model.sequence(_tokens(model, 200, 3)):
            pass
        _saved(base, again)
        assert _arrays(again) == before  # 2

        with _load(file) as fresh, fresh.load_sequence(path) as found:
            assert np.array_equal(_replay(found, last), expected)  # 3
        with model.load_sequence(path) as found:
            assert np.array_equal(_replay(found, last), expected)  # 4
        with base.fork() as found:
            assert np.array_equal(_replay(found, last), expected)  # 5

        middle, neighbours = _scattered(model, tokens[:-1])
        _saved(middle, again)
        with model.load_sequence(again) as found:
            assert np.array_equal(_replay(found, last), expected)  # 6
        with middle.fork() as twin:
            _saved(twin, tmp_path / "twin.state")
            assert _arrays(tmp_path / "twin.state") == _arrays(again)  # 7
            assert np.array_equal(_replay(twin, last), expected)
        for sequence in (middle, *neighbours):
            sequence.close()

        with model.load_sequence(path) as found:
            _saved(found, again)
            assert _arrays(again) == before  # 8

        with model.sequence(_tokens(model, 100, 2)) as other:
            _refuse_damaged(model, path)
            assert np.array_equal(other.logits, other_logits)  # 9
    assert model.memory()["caches_used"] == 0


def _refuse_damaged(model: jitllm.Model, path: Path) -> None:
    """Half of a file is 0xff, at its front or its end: an error, and no memory is held."""
    content, used = path.read_bytes(), model.memory()["caches_used"]
    half = len(content) // 2
    for wrong in (b"\xff" * half + content[half:], content[:half] + b"\xff" * half):
        path.write_bytes(wrong)
        with pytest.raises(JitllmError):
            model.load_sequence(path)
        assert model.memory()["caches_used"] == used


@pytest.mark.parametrize("name", ["stories260K", "gemma3-dense.gqa", "falcon-h1-dense.gqa"])
def test_restoring_into_holes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caches have pages for three sequences of 128 tokens, and those of one are free."""
    monkeypatch.setattr("jitllm.llm.state.reserve.pool_pages", lambda *_: 6)
    path, is_tiny = tmp_path / "middle.state", name != "stories260K"
    source = conformance_model(name, tmp_path / "model.gguf") if is_tiny else model_path(name)
    with jitllm.load(source, n_ctx=400, n_threads=1, progress=False) as model:
        tokens = _tokens(model, 72)
        with model.sequence(tokens) as sequence:
            expected = sequence.append([7]).logits
        middle, neighbours = _scattered(model, tokens)
        first = neighbours[0].logits
        _saved(middle, path)
        used = model.memory()["caches_used"]
        with pytest.raises(BackendError, match="expected a free page"):
            model.load_sequence(path)
        with pytest.raises(BackendError, match="expected a free page"):
            model.sequence(_tokens(model, 200))
        assert model.memory()["caches_used"] == used
        middle.close()
        with model.load_sequence(path) as found:
            assert np.array_equal(found.append([7]).logits, expected)
            with pytest.raises(BackendError, match="expected a free page"):
                found.append(_tokens(model, 100))
            assert np.array_equal(found.logits, expected)  # what was there is there still
        assert np.array_equal(neighbours[0].logits, first)
        for sequence in neighbours:
            sequence.close()
        assert model.memory()["caches_used"] == 0


def _fill(model: jitllm.Model, value: int) -> None:
    """Leave nothing but a byte in the caches and states that a sequence would get next."""
    for pages in model.engine.pools:
        pool = pages.pool
        for page in range(min(pool.n_pages, 12)):
            for layer in range(len(pool.spec.layers)):
                data = np.full(PAGE_TOKENS * pool.cell_bytes(layer), value, np.uint8)
                pool.write_cells(layer, page, 0, PAGE_TOKENS, data)
    states: Any = model.engine.slots and model.engine.slots.pool
    for slot in range(8 if states else 0):
        for i, size in enumerate(states.sizes):
            states.write(slot, i, np.full(4 * size, value, np.uint8).view(np.float32))


@pytest.mark.parametrize("value", [0x00, 0x3E, 0xFF])
def test_rolling_back(file: Path, tmp_path: Path, value: int) -> None:
    path = tmp_path / "back.state"
    with _load(file) as model:
        tokens = _tokens(model, 9)
        expected = model.forward(tokens)[-3:]
        with model.sequence(tokens) as sequence:
            _saved(sequence.truncate(6), path)
        with _load(file) as fresh:
            _fill(fresh, value)
            for target in (model, fresh):
                with target.load_sequence(path) as found:
                    rows = np.concatenate(list(found.extend(tokens[6:], np.arange(3))))
                    assert np.array_equal(rows, expected)


@pytest.mark.parametrize("value", [0x00, 0x3E])
def test_rolling_back_beside_another(file: Path, value: int) -> None:
    with _load(file) as model, _load(file) as never:
        _fill(model, value)
        both = [_tokens(model, 59, seed) for seed in (3, 4)]
        ahead = [model.sequence(tokens[:22]).truncate(19) for tokens in both]
        ahead[0].truncate(17).append(both[0][17:19])  # once more is allowed, and exact
        plain = [never.sequence(tokens[:19]) for tokens in both]
        for sequences in (ahead, plain):
            for sequence, tokens in zip(sequences, both, strict=True):
                for token in tokens[19:]:
                    sequence.push(token)
            compute_together(sequences[0].model.engine, [s.contents for s in sequences])
        for one, other, tokens in zip(ahead, plain, both, strict=True):
            assert np.array_equal(one.logits, other.logits)
            assert np.array_equal(one.logits, never.forward(tokens)[-1])
        expected = ahead[1].logits
        ahead[0].append(_tokens(model, 40, 9))
        assert np.array_equal(ahead[1].truncate(58).append(both[1][58:]).logits, expected)
        for sequence in (*ahead, *plain):
            sequence.close()
        assert model.memory()["caches_used"] == never.memory()["caches_used"] == 0
