"""Sequences side by side in one run get the bits that each gets alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.state.together import compute_together

_TINY = (
    "llama-dense.gqa", "gemma3-dense.gqa", "mamba2-dense", "jamba-dense", "falcon-h1-dense.gqa",
    "qwen35-dense", "qwen3next-moe.routed", "granitehybrid-dense", "lfm2-dense", "nemotron_h-dense",
    "deepseek2-moe.routed", "kimi-linear-moe.routed",
)  # fmt: skip


@pytest.fixture(scope="module", params=_TINY)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    path = conformance_model(request.param, tmp_path_factory.mktemp("state") / "model.gguf")
    with jitllm.load(path, n_ctx=1024, n_threads=1, progress=False) as model:
        yield model


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None
)
@given(data=st.data())
def test_neighbours_change_no_bit(model: jitllm.Model, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    lengths = data.draw(st.lists(st.integers(1, 300), min_size=2, max_size=7))
    texts = [[int(t) for t in rng.integers(0, model.n_vocab, n)] for n in lengths]
    alone = []
    for text in texts:
        with model.sequence(text) as sequence:
            alone.append([sequence.logits, sequence.append([3]).logits])
    sequences = [model.sequence() for _ in texts]
    for sequence, text in zip(sequences, texts, strict=True):
        done = data.draw(st.integers(0, len(text)))
        sequence.append(text[:done])  # some is there already, perhaps all
        for token in text[done:]:
            sequence.push(token)
    for step in range(2):
        compute_together(model.engine, [sequence.contents for sequence in sequences])
        for sequence, logits in zip(sequences, alone, strict=True):
            assert sequence.n_pending == 0
            assert np.array_equal(sequence.logits, logits[step])
            if not step:
                sequence.push(3)
    for sequence in sequences:
        sequence.close()
    assert model.memory()["caches_used"] == 0


def test_many_generations_give_what_each_gives_alone() -> None:
    with jitllm.load(model_path("smollm2"), n_ctx=256, n_threads=2, progress=False) as model:
        prompts = ["Once upon a time", "The capital of France is", "def add(a, b):", "x"] * 10
        wishes: dict[str, Any] = {"max_tokens": 12, "temperature": 1.0, "seed": 7}
        together = model.generate(prompts, **wishes)
        for prompt, result in list(zip(prompts, together, strict=True))[:4]:
            alone = model.generate(prompt, **wishes)
            assert result.token_ids == alone.token_ids and result.text == alone.text
            assert result.finish_reason == alone.finish_reason
            assert result.usage == alone.usage
        assert [r.text for r in together[4:8]] == [r.text for r in together[:4]]
        samples = model.generate("Once upon a time", n=5, stop=["the"], **wishes)
        assert len({tuple(sample.token_ids) for sample in samples}) > 1
        first = model.generate("Once upon a time", stop=["the"], **wishes)
        assert samples[0].token_ids == first.token_ids
        assert model.memory()["caches_used"] == 0


def test_few_pages_are_enough() -> None:
    """Where the caches hold three texts at once, eight are generated in turn."""
    options: dict[str, Any] = {"n_ctx": 200, "n_threads": 1, "cache_bytes": 12 * 40960}
    with jitllm.load(model_path("stories260K"), progress=False, **options) as model:
        assert model.engine.pools[0].pool.n_pages == 3 * 4
        results = model.generate([[1, 5 + i] for i in range(8)], max_tokens=190, temperature=0)
        assert [len(r.token_ids) for r in results] == [190] * 8
        assert results[3].text == model.generate([1, 8], max_tokens=190, temperature=0).text
