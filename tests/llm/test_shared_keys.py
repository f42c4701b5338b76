"""Layers that read the keys of others: the same bits however a sequence came about."""

from pathlib import Path

import numpy as np
import pytest
from driver import devices
from variants.written_gemma import WINDOW, written_gemma

import jitllm
from jitllm.llm.state.pages import SLACK_PAGES, pages_of

N_TOKENS = 500  # more than the pages of a window hold
NAMES = ["gemma3n", "gemma4", "gemma4.all", "step35"]
TOKENS = np.random.default_rng(1).integers(3, 128, N_TOKENS).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are."""
    folder = tmp_path_factory.mktemp("shared")
    for name in NAMES:
        written_gemma(name, folder / f"{name}.gguf")
    return folder


def load(folder: Path, name: str, device: str = "cpu") -> jitllm.Model:
    """Load one of the tiny models."""
    path = folder / f"{name}.gguf"
    return jitllm.load(path, device=device, n_ctx=1024, n_threads=2, progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_any_chunking_forks_and_cuts(folder: Path, name: str) -> None:
    tokens = TOKENS[:150]
    with load(folder, name) as model:
        logits = model.forward(tokens)
        for size in (1, 7, 64, 149):
            with model.sequence() as sequence:
                rows: list[np.ndarray] = []
                for start in range(0, 150, size):
                    piece = tokens[start : start + size]
                    rows += sequence.extend(piece, np.arange(len(piece)))
            assert np.array_equal(np.concatenate(rows), logits), size
        with model.sequence(tokens[:100]) as sequence, sequence.fork() as twin:
            twin.append([5, 6, 7])
            sequence.truncate(70).append(tokens[70:])
            assert np.array_equal(sequence.logits, logits[-1])
            twin.truncate(100).append(tokens[100:])
            assert np.array_equal(twin.logits, logits[-1])


@pytest.mark.parametrize(
    ("name", "device"), [("gemma3n", "cpu")] + [("gemma4", device) for device in devices()]
)
def test_cells_behind_a_window_are_dropped(folder: Path, name: str, device: str) -> None:
    with load(folder, name, device) as model:
        (near,) = (pool for pool in model.engine.pools if pool.window == WINDOW)
        (far,) = (pool for pool in model.engine.pools if not pool.window)
        atol = 0 if device == "cpu" else 2e-3  # NumPy may sum in another order
        whole = model.forward(TOKENS, rows=range(N_TOKENS))
        with model.sequence() as sequence:
            for start in range(0, N_TOKENS, 100):
                sequence.append(TOKENS[start : start + 100])
                expected = whole[start + 99]
                np.testing.assert_allclose(sequence.logits, expected, rtol=0, atol=atol)
            assert near.used_pages <= pages_of(WINDOW) + SLACK_PAGES + 2 < far.used_pages
            for n_tokens in (490, 420, 60):  # the last needs cells that are gone
                sequence.truncate(n_tokens)
                expected = whole[n_tokens - 1]
                np.testing.assert_allclose(sequence.logits, expected, rtol=0, atol=atol)


def test_shared_layers_take_no_memory(folder: Path) -> None:
    with load(folder, "gemma4") as model:
        sizes = {spec.window: spec.layers for spec in model.engine.graph.caches}
    assert sizes == {WINDOW: ((2, 16, 16),) * 4, 0: ((1, 32, 32),) * 2}
