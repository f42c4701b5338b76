"""Caches and states within a budget of bytes, which is checked before anything is allocated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.llm.cli import main
from jitllm.llm.state.budget import sizes_within
from jitllm.llm.state.reserve import Reserve

_N_CTX = 1024
_TINY = ("llama-dense.gqa", "gemma3-dense.gqa", "deepseek2-moe.routed", "mamba2-dense",
         "jamba-dense")  # fmt: skip


@pytest.fixture(scope="module", params=_TINY)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield conformance_model(request.param, tmp_path_factory.mktemp("budget") / "model.gguf")


def _load(path: Path, cache_bytes: int, **options: Any) -> jitllm.Model:
    return jitllm.load(
        path, n_ctx=_N_CTX, n_threads=1, cache_bytes=cache_bytes, progress=False, **options
    )


def _ids(model: jitllm.Model, n: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(1).integers(3, model.n_vocab, n)]


def _least(path: Path) -> int:
    with pytest.raises(jitllm.BackendError, match="expected cache_bytes of at least") as error:
        _load(path, 1)
    return int(str(error.value).split("at least ")[1].split(",")[0])


@pytest.mark.parametrize("times", [1, 3, 40, 1000])
def test_no_more_is_allocated_and_sequences_stay_whole(path: Path, times: int) -> None:
    budget = times * _least(path) + 7
    with _load(path, budget) as model:
        assert model.memory()["caches"] <= budget
        ids = _ids(model, _N_CTX)
        sequences = [model.sequence() for _ in range(6)]
        n_failed = 0
        for sequence in sequences:
            try:
                for start in range(0, len(ids), 100):
                    sequence.append(ids[start : start + 100])
            except jitllm.BackendError as error:
                n_failed += 1
                assert "close sequences that are not needed any more" in str(error)
            done = len(sequence)
            assert sequence.token_ids == ids[:done] and not sequence.n_pending
            assert model.memory()["caches_used"] <= budget
        assert n_failed or times > 1
        assert not n_failed or times < 1000
        last = len(sequences[0])
        for sequence in sequences[1:]:
            sequence.close()
        logits = sequences[0].logits if last else None
        sequences[0].truncate(max(0, last - 1))
        if logits is not None:  # it can be used further
            again = sequences[0].append(ids[last - 1 : last]).logits
            np.testing.assert_array_equal(again, logits)
        sequences[0].close()
        assert model.memory()["caches_used"] == 0


def test_too_few_bytes_are_told_when_loading(path: Path) -> None:
    least = _least(path)
    with pytest.raises(jitllm.BackendError, match=f"at least {least}, .* got {least - 1}"):
        _load(path, least - 1)
    with _load(path, least) as model:
        assert model.memory()["caches"] <= least
        expected = jitllm.load(path, n_threads=1, progress=False)
        ids = _ids(model, 30)
        assert model.generate(ids, max_tokens=20, seed=1).token_ids == (
            expected.generate(ids, max_tokens=20, seed=1).token_ids
        )
        expected.close()


def test_the_error_names_the_bytes(path: Path) -> None:
    with _load(path, _least(path)) as model:
        if not model.engine.pools:
            return
        pool = model.engine.pools[0]
        page, total = pool.pool.page_bytes, pool.pool.n_pages * pool.pool.page_bytes
        with pytest.raises(jitllm.BackendError) as error:
            model.sequence(_ids(model, total // page * PAGE_TOKENS + 1))
        for text in (f"{total} bytes in all", "bytes are wanted and", "are held"):
            assert text in str(error.value)


def test_wrong_budgets() -> None:
    wrong: Any
    for wrong in (-1, "1", 1.5, True):
        for name in ("cache_bytes", "prefix_cache"):
            options: dict[str, Any] = {name: wrong}
            with pytest.raises(ValueError, match=f"expected {name} as a number of bytes"):
                jitllm.load(model_path("stories260K"), progress=False, **options)


def test_many_prompts_take_turns_in_a_small_budget() -> None:
    path = model_path("stories260K")
    with _load(path, 1 << 20) as small, jitllm.load(path, n_ctx=_N_CTX, progress=False) as large:
        prompts = [_ids(small, 30 + i) for i in range(12)]
        wishes: dict[str, Any] = {"max_tokens": 400, "temperature": 0}
        for a, b in zip(
            small.generate(prompts, **wishes), large.generate(prompts, **wishes), strict=True
        ):
            assert a.token_ids == b.token_ids


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 32, 512, 4096]), st.integers(1, 3), st.integers(1, 4)),
        max_size=3,
    ),
    st.lists(st.integers(1, 1000), max_size=2),
    st.integers(1, 5000),
    st.integers(0, 1 << 24),
)
def test_what_is_shared_out_fits(
    caches: list[tuple[int, int, int]], states: list[int], n_ctx: int, n_bytes: int
) -> None:
    specs = tuple(CacheSpec(window, ((heads, 32, 32),) * n) for window, heads, n in caches)
    graph = Graph((), specs, 1, tuple(states))
    reserve = Reserve.of(graph, n_ctx, "f16")
    try:
        sizes = sizes_within(n_bytes, graph, reserve, "f16", n_ctx)
    except jitllm.BackendError:
        return
    assert all(n > 0 for n in sizes.pages) and (sizes.slots >= 2 or not states)
    taken = sum(
        n * 64 * 2 * sum(heads * (dk + dv) for heads, dk, dv in spec.layers)
        for n, spec in zip(sizes.pages, specs, strict=True)
    )
    assert taken + sizes.slots * 4 * sum(states) <= n_bytes


def test_the_command_takes_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["run", str(model_path("stories260K")), "Once", "-n", "3", "-q", "-c", "128"]
    assert main([*args, "--cache-bytes", "1M"]) == 0
    assert main([*args, "--cache-bytes", "1K"]) == 1
    assert "expected cache_bytes of at least" in capsys.readouterr().err
    assert main([*args, "--cache-bytes", "much"]) == 2
