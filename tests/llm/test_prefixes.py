"""Prompts start from what earlier ones left, and give the same bits as without that."""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.results import Generation

_ROOM = 1 << 30
_TINY = ("llama-dense.gqa", "gemma3-dense.gqa", "deepseek2-moe.routed", "mamba2-dense",
         "jamba-dense")  # fmt: skip


@pytest.fixture(scope="module", params=_TINY)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    path = conformance_model(request.param, tmp_path_factory.mktemp("prefix") / "model.gguf")
    with jitllm.load(path, n_ctx=1024, n_threads=1, progress=False) as model:
        yield model


@pytest.fixture
def small() -> Iterator[jitllm.Model]:
    path = model_path("stories260K")
    with jitllm.load(path, n_threads=1, prefix_cache=_ROOM, progress=False) as model:
        yield model
        model.prefix_cache.clear()
        assert model.memory()["caches_used"] == 0


def _ids(model: jitllm.Model, seed: int, n: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(3, model.n_vocab, n)]


def _facts(result: Generation) -> Any:
    return result.token_ids, result.logprobs, result.prompt_token_ids, result.finish_reason


def _with_and_without(
    model: jitllm.Model, prompts: list[list[int]], **wishes: Any
) -> list[Generation]:
    """Generate one after the other from what was kept, and compare with each alone."""
    results = []
    for ids in prompts:
        model.prefix_cache.max_bytes = _ROOM
        results.append(model.generate(ids, logprobs=3, **wishes))
        kept = list(model.prefix_cache._kept)
        model.prefix_cache._kept, model.prefix_cache._max_bytes = [], 0
        assert _facts(model.generate(ids, logprobs=3, **wishes)) == _facts(results[-1])
        model.prefix_cache._kept = kept
    model.prefix_cache.clear()
    assert model.memory()["caches_used"] == 0
    return results


def test_each_memory_gives_the_same_bits(model: jitllm.Model) -> None:
    base = _ids(model, 1, 150)
    wishes: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0, "seed": 3}
    first = model.generate(base, **wishes).token_ids
    turn = [*base, *first, *_ids(model, 2, 20)]  # as the next turn of a chat
    long = [*turn, *_ids(model, 3, 600)]
    prompts = [base, base, turn, base[:90], [*base[:100], *_ids(model, 4, 30)], long, long[:800],
               [*long, 5], turn, base[:1]]  # fmt: skip
    results = _with_and_without(model, prompts, **wishes)
    reused = [result.timings.reused_tokens for result in results]
    computed = [result.timings.prompt_tokens for result in results]
    assert [a + b for a, b in zip(reused, computed, strict=True)] == [len(p) for p in prompts]
    has_states = bool(model.engine.slots)
    assert reused[:3] == [0, 150 if has_states else 149, 189]
    assert reused[3] == (0 if has_states else 89)
    assert reused[7] == len(long)
    if not has_states and not any(spec.window for spec in model.engine.graph.caches):
        assert reused[4:7] == [100, 210, 799]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None
)
@given(data=st.data())
def test_any_order_of_any_prompts(model: jitllm.Model, data: st.DataObject) -> None:
    """Texts with common beginnings, in a budget that is often too small."""
    trunk = _ids(model, 0, 700)
    page = max(sum(pool.pool.page_bytes for pool in model.engine.pools), 1)
    slot = model.engine.slots.pool.slot_bytes if model.engine.slots else 0
    cache = model.prefix_cache
    cache.max_bytes = data.draw(st.integers(0, 40)) * page + data.draw(st.integers(0, 12)) * slot
    for _ in range(data.draw(st.integers(2, 6))):
        cut = data.draw(st.integers(0, 700))
        ids = [*trunk[:cut], *_ids(model, data.draw(st.integers(1, 3)), 1 + cut % 40)]
        result = model.generate(ids, max_tokens=3, temperature=0, logprobs=1)
        assert cache.nbytes <= cache.max_bytes
        logits = model.forward(
            [*ids, *result.token_ids[:-1]], rows=range(len(ids) - 1, len(ids) + 2)
        )
        best = logits.argmax(1)
        assert result.token_ids == best.tolist()
        shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
        expected = -np.log(np.exp(shifted).sum(1))
        got = [entry.logprob or 0.0 for entry in result.logprobs or ()]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    cache.max_bytes = 0
    assert not len(cache) and model.memory()["caches_used"] == 0


def test_prompts_of_one_call_share_their_beginning(model: jitllm.Model) -> None:
    system = _ids(model, 5, 200)
    prompts = [[*system, *_ids(model, i, 10)] for i in range(6, 11)]
    wishes: dict[str, Any] = {"max_tokens": 8, "seed": 1, "logprobs": 2}
    alone = [_facts(model.generate(ids, **wishes)) for ids in prompts]
    model.prefix_cache.max_bytes = _ROOM
    results = model.generate(prompts, **wishes)
    assert [_facts(result) for result in results] == alone
    has_states = bool(model.engine.slots)
    expected = 0 if has_states else 200
    assert [r.timings.reused_tokens for r in results] == [0, *[expected] * 4]
    samples = model.generate(prompts[0], n=3, **wishes)
    assert _facts(samples[0]) == alone[0]
    model.prefix_cache.max_bytes = 0
    assert model.memory()["caches_used"] == 0


def test_off_by_default(model: jitllm.Model) -> None:
    assert model.prefix_cache.max_bytes == 0
    for _ in range(2):
        assert model.generate([3, 4, 5], max_tokens=1).timings.reused_tokens == 0
    assert len(model.prefix_cache) == 0


def test_a_chat_reads_only_what_is_new(small: jitllm.Model) -> None:
    text = "Once upon a time there was a little girl."
    first = small.generate(text, max_tokens=30, temperature=0)
    again = small.generate([*first.prompt_token_ids, *first.token_ids], max_tokens=5)
    assert again.timings.prompt_tokens <= 2
    streamed = small.stream(text, max_tokens=30, temperature=0).finish()
    assert streamed.token_ids == first.token_ids
    assert streamed.timings.reused_tokens == len(first.prompt_token_ids) - 1
    assert "2 texts" not in repr(small.prefix_cache)  # the longer one has all of the shorter


def test_what_was_used_last_goes_last(small: jitllm.Model) -> None:
    cache, texts = small.prefix_cache, [_ids(small, seed, 200) for seed in range(4)]
    size = 4 * small.engine.pools[0].pool.page_bytes
    cache.max_bytes = 3 * size
    for number in (0, 1, 2, 0, 3):
        small.generate(texts[number], max_tokens=1)
    assert cache.nbytes == 3 * size == small.memory()["caches_used"]
    assert [cache.count(text) for text in texts] == [199, 0, 199, 199]
    cache.max_bytes = size
    assert [cache.count(text) for text in texts] == [0, 0, 0, 199]
    cache.max_bytes = size - 1
    small.generate(texts[1], max_tokens=1)
    assert cache.nbytes == len(cache) == 0
    with pytest.raises(ValueError, match="at least 0 bytes"):
        cache.max_bytes = -1


def test_sequences_get_the_pages_that_only_kept_texts_hold() -> None:
    path = model_path("stories260K")
    options: dict[str, Any] = {"cache_bytes": 1 << 20, "prefix_cache": _ROOM, "n_threads": 1}
    with jitllm.load(path, n_ctx=512, progress=False, **options) as model:
        for seed in range(12):
            model.generate(_ids(model, seed, 300), max_tokens=1)
        assert model.prefix_cache.count(_ids(model, 11, 300)) == 299
        ids = _ids(model, 20, 400)
        with model.sequence(ids) as a, model.sequence(ids) as b, model.sequence(ids) as c:
            assert np.array_equal(a.logits, c.logits) and len(b) == 400
            assert model.prefix_cache.count(_ids(model, 11, 300)) == 0
            with pytest.raises(jitllm.BackendError, match="expected a free page"):
                model.sequence(ids)
        results = model.generate([_ids(model, seed, 300) for seed in range(12)], max_tokens=3)
        assert len(results) == 12


def test_what_was_changed_is_not_kept(small: jitllm.Model) -> None:
    ids, cache = _ids(small, 1, 100), small.prefix_cache

    def silence(x: Any, hook: Any) -> Any:
        return x * 0

    with small.hooks({"blk.0.l_out": silence}):
        changed = small.generate(ids, max_tokens=4, temperature=0)
        assert len(cache) == 0
    plain = small.generate(ids, max_tokens=4, temperature=0)
    assert plain.timings.reused_tokens == 0 and len(cache) == 1
    with small.hooks({"blk.0.l_out": silence}):
        again = small.generate(ids, max_tokens=4, temperature=0)
        assert again.timings.reused_tokens == 0 and again.token_ids == changed.token_ids
    whole = small.generate(ids, max_tokens=1, prompt_logprobs=0)
    assert whole.timings.reused_tokens == 0 and len(whole.prompt_logprobs or ()) == 100
    small.engine.use(dataclasses.replace(small.engine.graph))  # as adapters do
    assert cache.count(ids) == 0 and len(cache) == 0


def test_shifted_contexts_are_not_kept() -> None:
    path = model_path("stories260K")
    with jitllm.load(path, n_ctx=96, prefix_cache=_ROOM, n_threads=1, progress=False) as model:
        ids = _ids(model, 1, 60)
        result = model.generate(
            ids, max_tokens=100, temperature=0, context_shift=True, ignore_eos=True
        )
        assert len(result.token_ids) == 100
        cache = model.prefix_cache
        assert cache.count([*ids, 1]) == 60  # the prompt alone
        assert len(cache) == 1


def test_threads_share_it(small: jitllm.Model) -> None:
    base = _ids(small, 1, 150)
    prompts = [[*base[: 30 * i], *_ids(small, i, 20)] for i in range(6)]
    wishes: dict[str, Any] = {"max_tokens": 6, "seed": 2}
    small.prefix_cache.max_bytes = 0
    expected = [small.generate(ids, **wishes).token_ids for ids in prompts]
    small.prefix_cache.max_bytes = 12 * small.engine.pools[0].pool.page_bytes
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(12):
            number = (start + i) % len(prompts)
            if small.generate(prompts[number], **wishes).token_ids != expected[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert small.prefix_cache.nbytes <= small.prefix_cache.max_bytes


def test_a_closed_model_has_let_go() -> None:
    with jitllm.load(model_path("stories260K"), prefix_cache=_ROOM, progress=False) as model:
        stream = model.stream(_ids(model, 1, 50))
        next(stream)
        model.generate(_ids(model, 2, 50), max_tokens=2)
    assert len(model.prefix_cache) == 0
    stream.close()
    assert len(model.prefix_cache) == 0
