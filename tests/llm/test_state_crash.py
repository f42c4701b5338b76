"""State files live through killed processes and mutations of any kind."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from models import model_path

import jitllm
from jitllm.llm.errors import JitllmError
from jitllm.llm.state_files.file import StateFile

_WRITER = Path(__file__).parent.parent / "state_writer.py"


@pytest.fixture(scope="module")
def stories() -> Iterator[jitllm.Model]:
    path = model_path("stories260K")
    with jitllm.load(path, device="reference", n_ctx=512, progress=False) as model:
        yield model


def _run_and_kill(path: Path, seconds: float) -> tuple[int, int]:
    """Returns the tokens of the last save that ended, and of the last that began; 0 for none."""
    command = [sys.executable, "-P", str(_WRITER), str(model_path("stories260K")), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()  # it is at work
        time.sleep(seconds)
        writer.kill()
        lines = (first + writer.stdout.read()).split("\n")
    begun, ended = 0, 0
    for line in lines:
        word, _, number = line.partition(" ")
        begun = int(number) if word == "saving" and number.isdigit() else begun
        ended = int(number) if word == "saved" and number.isdigit() else ended
    return ended, begun


@pytest.mark.parametrize(
    "n_rounds", [6, pytest.param(500, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_killed_process_leaves_the_last_or_the_one_before(
    stories: jitllm.Model, tmp_path: Path, n_rounds: int
) -> None:
    path, rng, last = tmp_path / "killed.state", random.Random(4), 0
    for round_ in range(n_rounds):
        ended, begun = _run_and_kill(path, rng.uniform(0, 0.03))
        last = ended or last
        if not path.exists() or not last:
            continue
        with StateFile(path) as file:
            assert file.verify() == {}
            newest = file.get()
            assert newest.n_tokens in (last, begun)
            last = newest.n_tokens
        if round_ % 10 == 5:
            with stories.load_sequence(path) as found, stories.sequence() as fresh:
                assert found.n_pending == 0
                fresh.append(found.token_ids)
                assert np.allclose(found.append([7]).logits, fresh.append([7]).logits, atol=1e-4)
    assert last


def _mutate(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip, overwrite, repeat or drop something."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        place = rng.randrange(len(data))
        size = min(rng.choice((1, 4, 8, 64, 500)), len(data) - place)
        way = rng.randrange(6)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place : place + size] = rng.randbytes(size)
        elif way == 2:
            data[place : place + size] = bytes(size)
        elif way == 3:
            del data[max(1, place) :]
        elif way == 4:
            data[place:place] = data[place : place + size]
        else:
            del data[place : place + size]
        if not data:
            return b"J"
    return bytes(data)


@pytest.mark.parametrize(
    "n_files", [150, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_mutated_files_give_an_error_or_the_exact_state(
    stories: jitllm.Model, tmp_path: Path, n_files: int
) -> None:
    """The reference backend's bits depend on the batch, so cells are compared, not logits."""
    path, rng = tmp_path / "mutated.state", random.Random(8)
    tokens = [1, *range(5, 104)]
    with stories.sequence() as s:
        for stop in (40, 80, 100):
            s.append(tokens[len(s) : stop]).save(path, label=str(stop))
        whole, cells = path.read_bytes(), [np.asarray(layer.k) for layer in s.kv]
    outcomes = {"exact": 0, "computed again": 0, "error": 0}
    for _ in range(n_files):
        path.write_bytes(_mutate(whole, rng))
        try:
            found = stories.load_sequence(path, rng.choice(("40", "80", "100", None)))
        except JitllmError:
            outcomes["error"] += 1
            continue
        with found:
            n = len(found) - found.n_pending
            assert found.token_ids == tokens[: len(found)]
            for layer, expected in zip(found.kv, cells, strict=True):
                assert np.array_equal(np.asarray(layer.k), expected[:n])
            outcomes["computed again" if found.n_pending else "exact"] += 1
    assert stories.memory()["caches_used"] == 0
    assert min(outcomes.values()) > n_files // 50, outcomes
