"""Sequences go on to the same bits after saving, forking, cutting and rolling back, anywhere."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm
from jitllm.llm.state.sequence import Sequence

Logits = NDArray[np.float32]

N_POSITIONS, N_AFTER = 200, 64
_EDGES = (1, 2, 3, 31, 32, 33, 63, 64, 65, 66, 100, 127, 128, 129, 199, 200)
_POSITIONS = pytest.mark.parametrize(
    "positions",
    [
        pytest.param(_EDGES, id="edges"),
        pytest.param(range(1, N_POSITIONS + 1), id="all", marks=pytest.mark.slow),
    ],
)
_TINY = (
    "llama-dense.gqa", "gemma3-dense.gqa", "mamba2-dense", "jamba-dense", "falcon-h1-dense.gqa",
    "qwen35-dense", "qwen3next-moe.routed", "granitehybrid-dense", "lfm2-dense", "nemotron_h-dense",
    "deepseek2-moe.routed", "kimi-linear-moe.routed",
)  # fmt: skip


@pytest.fixture(scope="module", params=[*_TINY, pytest.param("smollm2", marks=pytest.mark.slow)])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    folder, name = tmp_path_factory.mktemp("state"), request.param
    is_real = name == "smollm2"
    path = model_path(name) if is_real else conformance_model(name, folder / "model.gguf")
    with jitllm.load(path, n_ctx=512, n_threads=2, progress=False) as model:
        yield model


def _tokens(model: jitllm.Model) -> list[int]:
    rng = np.random.default_rng(5)
    return [int(t) for t in rng.integers(0, model.n_vocab, N_POSITIONS + N_AFTER)]


def _goes_on(sequence: Sequence, tokens: list[int], logits: Logits) -> None:
    """Append what follows, and compare all its logits with those of the whole."""
    start = len(sequence)
    assert sequence.token_ids == tokens[:start]
    assert np.array_equal(sequence.logits, logits[start - 1])
    after = tokens[start : start + N_AFTER]
    rows = np.concatenate(list(sequence.extend(after, np.arange(len(after)))))
    assert np.array_equal(rows, logits[start : start + len(after)])


def _saved(sequence: Sequence, path: Path) -> Sequence:
    sequence.save(path, sync=False)
    return sequence.model.load_sequence(path)


def _forked(sequence: Sequence, _: Path) -> Sequence:
    twin = sequence.fork()
    sequence.append([1, 2, 3])  # must not change the fork
    return twin


def _rolled_back(sequence: Sequence, _: Path) -> Sequence:
    sequence.checkpoint("here")
    sequence.append([1, 2, 3]).truncate(1)
    return sequence.rollback("here").fork()


@_POSITIONS
@pytest.mark.parametrize("way", [_saved, _forked, _rolled_back])
def test_at_every_position(
    model: jitllm.Model,
    way: Callable[[Sequence, Path], Sequence],
    positions: Iterable[int],
    tmp_path: Path,
) -> None:
    tokens = _tokens(model)
    logits = model.forward(tokens)
    with model.sequence() as sequence:
        for position in positions:
            sequence.append(tokens[len(sequence) : position])
            with sequence.fork() as base, way(base, tmp_path / "one.state") as found:
                _goes_on(found, tokens, logits)
    assert model.memory()["caches_used"] == 0


@_POSITIONS
def test_cut_at_every_position(model: jitllm.Model, positions: Iterable[int]) -> None:
    tokens = _tokens(model)
    logits = model.forward(tokens)
    with model.sequence(tokens) as whole:
        for position in positions:
            with whole.fork() as sequence:
                _goes_on(sequence.truncate(position), tokens, logits)
    assert model.memory()["caches_used"] == 0


def test_a_file_grows_by_what_is_new(model: jitllm.Model, tmp_path: Path) -> None:
    """One file, a save after every few tokens, cuts and branches between; all of it comes back."""
    tokens, path = _tokens(model), tmp_path / "grows.state"
    logits, saved = model.forward(tokens), {}
    with model.sequence() as sequence:
        for start, stop in [(0, 3), (3, 70), (70, 71), (71, 150), (40, 66), (66, 130), (130, 200)]:
            sequence.truncate(start).append(tokens[start:stop])
            saved[sequence.save(path, label=f"{start}-{stop}", sync=False).id] = stop
    for number, length in saved.items():
        with model.load_sequence(path, number) as found:
            assert len(found) == length and not found.n_pending
            _goes_on(found, tokens, logits)


@pytest.fixture(scope="module")
def smollm() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("smollm2"), n_ctx=512, n_threads=2, progress=False) as model:
        yield model


def test_a_generation_goes_on_with_its_samplers(smollm: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "talk.state"
    with smollm.sequence("Once upon a time") as sequence:
        stream = sequence.generate(
            max_tokens=24, temperature=1.2, seed=5, repetition_penalty=1.3, stream=True
        )
        for i, _ in enumerate(stream):
            if i == 9:
                sequence.save(path)
                twin, moment = sequence.fork(), sequence.checkpoint()
        expected = stream.result.token_ids[10:]
        with twin, smollm.load_sequence(path) as loaded, sequence.branch(moment) as branch:
            for one in (twin, loaded, branch):
                assert one.resume(max_tokens=14).token_ids == expected
                assert one.token_ids == sequence.token_ids
            sequence.rollback(moment)
            assert sequence.resume(max_tokens=14).token_ids == expected
            sequence.truncate(3)
            with pytest.raises(ValueError, match="truncating ends one"):
                sequence.resume()


def test_samplers_of_the_caller_are_given_again(smollm: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "own.state"
    own = jitllm.samplers.chain("temperature:1.5", "dist", seed=3, n_vocab=smollm.n_vocab)
    with smollm.sequence("Once upon a time") as sequence:
        stream = sequence.generate(max_tokens=12, sampler=own, stream=True)
        for i, _ in enumerate(stream):
            if i == 4:
                sequence.save(path)
        with smollm.load_sequence(path) as loaded:
            with pytest.raises(ValueError, match="expected sampler as given to generate"):
                loaded.resume(max_tokens=7)
            again = loaded.resume(max_tokens=7, sampler=own)
        assert again.token_ids == stream.result.token_ids[5:]
