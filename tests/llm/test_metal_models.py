"""Whole models on the Metal backend, over the stand-in where there is no Metal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, opens
from models import model_path
from tiny import conformance_golden, conformance_model, conformance_names

import jitllm

pytestmark = pytest.mark.skipif(not opens("metal"), reason="no Metal here, and no stand-in")
MAX_NMSE = 1e-6
# One of every kind; the slow test has all of them.
SOME = (
    "llama-dense.gqa", "gemma2-dense", "gpt2-dense", "mpt-dense", "llama4-moe.routed",
    "deepseek2-moe.routed", "gpt-oss-moe.routed", "mamba2-dense", "qwen4exp-moe.routed",
    "hy_v4-moe.routed",
)  # fmt: skip


def _error(name: str, path: Path) -> float:
    """NMSE of the last 16 logits: 20 tokens in one run, then 8 single ones."""
    tokens, expected = conformance_golden(name)
    with Runner(conformance_model(name, path), "metal") as runner:
        runs = [runner.forward(tokens[:20])]
        runs += [runner.forward(tokens[i : i + 1], i) for i in range(20, 28)]
    return nmse(np.concatenate(runs)[-16:], expected)


@pytest.mark.parametrize("name", SOME)
def test_some_architectures(tmp_path: Path, name: str) -> None:
    assert _error(name, tmp_path / "model.gguf") <= MAX_NMSE


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(conformance_names()) - set(SOME)))
def test_all_architectures(tmp_path: Path, name: str) -> None:
    assert _error(name, tmp_path / "model.gguf") <= MAX_NMSE


def test_greedy_text_is_that_of_the_cpu() -> None:
    texts = []
    options: dict[str, Any] = {"precision": "exact", "progress": False}
    for device in ("metal", "cpu"):
        with jitllm.load(model_path("stories260K"), device=device, **options) as model:
            texts.append(model.generate("Once upon a time", max_tokens=48, temperature=0.0).text)
    assert texts[0] == texts[1]


def test_loading_allocates_what_was_planned(tmp_path: Path) -> None:
    path = conformance_model("gemma2-dense", tmp_path / "model.gguf")
    (share,) = jitllm.plan(path, device="metal", n_ctx=300).shares
    with jitllm.load(path, device="metal", n_ctx=300, progress=False) as model:
        memory = model.memory()
    planned = {"weights": share.weights, "caches": share.pool, "buffers": share.compute}
    assert memory == {**planned, "caches_used": 0}
