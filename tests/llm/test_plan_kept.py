"""What was planned is held from loading to closing, whatever a model is used for."""

from typing import Any

import numpy as np
import pytest
from driver import opens
from logits import Files, written_once
from tiny import conformance_model

import jitllm

N_CTX = 200
NAMES = ("llama-dense.gqa", "gemma3-dense", "jamba-dense")  # all positions, a window, states
WHERE: list[dict[str, Any]] = [
    {"device": "cpu"},
    {"device": "vulkan"},
    {"device": ["vulkan", "reference"], "n_gpu_layers": 2},
]
CASES = [*((name, where) for name in NAMES for where in WHERE), (NAMES[1], {"device": "cuda"})]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a model, written once."""
    return written_once(tmp_path_factory.mktemp("kept"), conformance_model)


def _held(model: jitllm.Model) -> dict[str, dict[str, int]]:
    return {device: dict(sizes) for device, sizes in model.memory_by_device().items()}


@pytest.mark.parametrize(("name", "where"), CASES)
def test_use_changes_no_buffer(
    files: Files, name: str, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    if not all(opens(device) for device in np.atleast_1d(where["device"])):
        pytest.skip("no such device here")
    options: dict[str, Any] = {"n_ctx": N_CTX, "cache_bytes": 4_000_000, "n_threads": 1, **where}
    shares = jitllm.plan(files(name), **options).shares
    planned = {
        s.device: {"weights": s.weights, "caches": s.pool, "buffers": s.compute} for s in shares
    }
    with jitllm.load(files(name), progress=False, **options) as model:
        held = [_held(model)]
        ids = [i % model.n_vocab for i in range(N_CTX)]
        model.forward(ids[:1])
        held.append(_held(model))
        model.forward(ids)  # all rows of logits
        held.append(_held(model))
        # tables of full contexts side by side, and as many rows of logits
        model.generate([ids[: N_CTX - 3], ids[:50]], n=3, max_tokens=4, seed=1)
        held.append(_held(model))
    assert held == [planned] * len(held)
