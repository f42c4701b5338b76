"""A promise of the README on a real model: the same tokens give the same bits, however fed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray

import jitllm

N_TOKENS = 150


@pytest.fixture(scope="module")
def model() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("smollm2"), n_ctx=512, n_threads=2, progress=False) as model:
        yield model


@pytest.fixture(scope="module")
def tokens(model: jitllm.Model) -> list[int]:
    text = Path(__file__).read_text("utf-8") * 2
    return model.tokenize(text)[:N_TOKENS]


@pytest.fixture(scope="module")
def logits(model: jitllm.Model, tokens: list[int]) -> NDArray[np.float32]:
    return model.forward(tokens)


def fed(model: jitllm.Model, tokens: list[int], size: int) -> NDArray[np.float32]:
    """Logits of all tokens, fed in pieces of `size`."""
    rows: list[NDArray[np.float32]] = []
    with model.sequence() as sequence:
        for start in range(0, len(tokens), size):
            piece = tokens[start : start + size]
            rows += sequence.extend(piece, np.arange(len(piece)))
    return np.concatenate(rows)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 63, 64, 65, 149])
def test_any_chunking(
    model: jitllm.Model, tokens: list[int], logits: NDArray[np.float32], size: int
) -> None:
    assert len(tokens) == N_TOKENS
    assert np.array_equal(fed(model, tokens, size), logits)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_any_number_of_threads(
    tokens: list[int], logits: NDArray[np.float32], n_threads: int
) -> None:
    path = model_path("smollm2")
    with jitllm.load(path, n_ctx=512, n_threads=n_threads, progress=False) as other:
        assert np.array_equal(other.forward(tokens), logits)
        assert np.array_equal(fed(other, tokens, 1), logits)


def test_hooks_that_only_read(
    model: jitllm.Model, tokens: list[int], logits: NDArray[np.float32]
) -> None:
    read, cache = model.run_with_cache(tokens)
    assert np.array_equal(read, logits) and len(cache) > 30 * 10
    patterns = ["blocks.0.attn.hook_pattern", "blocks.29.attn.hook_pattern"]
    assert np.array_equal(model.run_with_cache(tokens, names_filter=patterns)[0], logits)


def test_forks_and_cuts(
    model: jitllm.Model, tokens: list[int], logits: NDArray[np.float32]
) -> None:
    with model.sequence(tokens[:100]) as sequence, sequence.fork() as twin:
        twin.append([5, 6, 7])
        sequence.truncate(70).append(tokens[70:])
        assert np.array_equal(sequence.logits, logits[-1])
        twin.truncate(100).append(tokens[100:])
        assert np.array_equal(twin.logits, logits[-1])
