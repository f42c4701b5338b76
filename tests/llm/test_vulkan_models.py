"""Whole models on the Vulkan backend: architectures against llama.cpp's logits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from driver import Runner, nmse, opens
from tiny import conformance_golden, conformance_model, conformance_names

import jitllm

pytestmark = pytest.mark.skipif(
    not opens("vulkan"), reason="no Vulkan loader or device here, or not built"
)
MAX_NMSE, MAX_NMSE_HALF = 1e-6, 1e-3
# One of every kind; the slow test has all of them.
SOME = (
    "llama-dense.gqa", "gemma2-dense", "gpt2-dense", "bloom-dense", "mpt-dense", "stablelm-dense",
    "arcee-dense", "llama4-moe.routed", "deepseek2-moe.routed", "afmoe-moe.routed",
    "dbrx-moe.routed", "qwen2moe-moe.routed", "gpt-oss-moe.routed", "minimax-m2-moe.routed",
    "falcon-h1-dense", "mamba-dense", "qwen4exp-moe.routed", "kimi-k3-moe.routed",
    "hy_v4-moe.routed",
)  # fmt: skip


def _error(path: Path, name: str, kv_dtype: str) -> float:
    """NMSE of the last 16 logits: 20 tokens in one run, then 8 single ones."""
    tokens, expected = conformance_golden(name)
    with Runner(path, "vulkan", kv_dtype=kv_dtype) as runner:
        runs = [runner.forward(tokens[:20])]
        runs += [runner.forward(tokens[i : i + 1], i) for i in range(20, 28)]
    return nmse(np.concatenate(runs)[-16:], expected)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Path of a model of the conformance set."""
    return lambda name: conformance_model(name, tmp_path / "model.gguf")


@pytest.mark.parametrize("name", SOME)
def test_some_architectures(file: Callable[[str], Path], name: str) -> None:
    assert _error(file(name), name, "f32") <= MAX_NMSE


def test_half_precision_cache(file: Callable[[str], Path]) -> None:
    assert 0 < _error(file("llama-dense.gqa"), "llama-dense.gqa", "f16") <= MAX_NMSE_HALF


@pytest.mark.parametrize("name", ["gpt2-dense", "deepseek32-moe.routed", "deepseek4-moe.routed"])
def test_quantized_cache(file: Callable[[str], Path], name: str) -> None:
    path, (tokens, _), logits = file(name), conformance_golden(name), []
    for device in ("vulkan", "reference"):
        with Runner(path, device, kv_dtype="q8_0") as runner:
            runs = runner.forward(tokens[:20]), runner.forward(tokens[20:], 20)
        logits.append(np.concatenate(runs))
    assert nmse(*logits) <= MAX_NMSE


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(conformance_names()) - set(SOME)))
def test_all_architectures(file: Callable[[str], Path], name: str) -> None:
    assert _error(file(name), name, "f32") <= MAX_NMSE


@pytest.mark.parametrize("name", ["gemma2-dense", "deepseek2-moe.routed"])
def test_loading_allocates_what_was_planned(file: Callable[[str], Path], name: str) -> None:
    path = file(name)
    (share,) = jitllm.plan(path, device="vulkan", n_ctx=300).shares
    with jitllm.load(path, device="vulkan", n_ctx=300, progress=False) as model:
        memory = model.memory()
    planned = {"weights": share.weights, "caches": share.pool, "buffers": share.compute}
    assert memory == {**planned, "caches_used": 0}
