"""The benchmark's parts that are not timing."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from models import model_path
from tiny import write_gguf

import jitllm

BENCH = Path(__file__).parent.parent.parent / "bench"
STORIES = model_path("stories260K")
NAMES = ("machine", "results", "contest", "compare")


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts as modules; they import each other by their short names."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_player_computes_what_the_library_computes(modules: dict[str, ModuleType]) -> None:
    contest = modules["contest"]
    player = contest.Player("jitllm", Path(sys.executable), STORIES, 1, 256)
    try:
        tokens = contest.tokens_for(player, 12)
        answer = player.play(tokens, 8)
    finally:
        player.close()
    assert tokens[0] == 1 and len(tokens) == 12 == len(set(tokens[1:])) + 1
    with jitllm.load(STORIES, n_ctx=256, progress=False) as model:
        logits = model.sequence(tokens[:8]).logits
    np.testing.assert_array_equal(np.float32(answer["logits"]), logits[::2])
    assert answer["prompt_s"] > 0 and answer["decode_s"] > 0


def test_different_logits_stop_a_comparison(modules: dict[str, ModuleType]) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 256)).tolist()
    answers = {"a": {"logits": logits[0]}, "b": {"logits": logits[1]}}
    with pytest.raises(RuntimeError, match="no speed is reported"):
        modules["contest"].check_same(answers)
    modules["contest"].check_same({"a": answers["a"], "b": answers["a"]})


def test_a_contestant_that_dies_says_why(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no-such\.gguf"):
        modules["contest"].Player("jitllm", Path(sys.executable), tmp_path / "no-such.gguf", 1, 256)


@pytest.mark.parametrize(
    ("tied", "experts", "expected"), [(True, 0, 768), (False, 0, 768), (False, 4, 1280)]
)
def test_bytes_per_token(
    tied: bool, experts: int, expected: int, tmp_path: Path, modules: dict[str, ModuleType]
) -> None:
    tensors = {"token_embd.weight": np.zeros((16, 8), np.float32),
               "blk.0.ffn_up.weight": np.zeros((8, 8), np.float32)}  # fmt: skip
    if not tied:
        tensors["output.weight"] = np.zeros((16, 8), np.float32)
    if experts:
        tensors["blk.0.ffn_up_exps.weight"] = np.zeros((experts, 8, 8), np.float32)
    path = write_gguf(tmp_path / "a.gguf", {"llama.expert_used_count": 2}, tensors)
    assert modules["compare"].bytes_per_token(path) == expected


def test_results_are_read_back(
    tmp_path: Path, modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = modules["results"]
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [results.Row("2026-01-01T00:00Z", "A (R) CPU, 2 threads", "abc", "model, big", case,
                        "jitllm", 12.5, 12.0, 13.0, 5) for case in ("pp512", "tg64")]  # fmt: skip
    assert (
        results.append(rows[:1]) == results.append(rows[1:]) == tmp_path / "a-r-cpu-2-threads.csv"
    )
    assert results.read(tmp_path / "a-r-cpu-2-threads.csv") == rows
