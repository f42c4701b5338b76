"""Sparse attention on the simulated GPU: its kernels against their twins."""

from typing import Any

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import RunBlock, check, count, empty_rows, few, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from jitllm.backends.base import Floats
from jitllm.kernels import cache_types, reference
from jitllm.kernels.cache_types import NAMES, PAGE_TOKENS
from jitllm.kernels.reference import compress as reference_compress
from jitllm.kernels.reference import sparse as reference_sparse

N_CELLS, TABLE = 192, np.array([2, 0, 1], np.int32)


def _whole(rng: Any, *shape: int) -> Floats:
    """Small whole numbers: sums are exact, and equal ones are common."""
    x: Floats = rng.integers(-2, 3, shape).astype(np.float32)
    return x


class _Cache:
    """Pages with keys and values of the positions 0 to N_CELLS - 1."""

    def __init__(self, kv: str, heads: int, k: Floats, v: Floats) -> None:
        sizes = heads, k.shape[1] // heads, v.shape[1] // heads
        keys, values = cache_types.rows_of(kv, sizes)
        self.key_bytes = PAGE_TOKENS * keys.nbytes // heads
        self.head_bytes = self.key_bytes + PAGE_TOKENS * values.nbytes // heads
        self.page_bytes = heads * self.head_bytes
        self.kinds = [NAMES.index(kind) for kind in cache_types.pair(kv)]
        self.pages = np.full((3, self.page_bytes), 0xFF, np.uint8)
        reference.kv_write(k, v, self.pages, TABLE, 0, n_kv_heads=heads, kv=kv)

    @property
    def words(self) -> list[int]:
        """Bytes of a page, the number of the cache, how many there are."""
        return [self.page_bytes, 0, 1]


def _run(first: int, n: int) -> RunBlock:
    return RunBlock([(n, first)], [[TABLE]])


cases = settings(max_examples=6, deadline=None)


@cases
@given(st.integers(0, 999), st.integers(0, 187), st.integers(1, 40), st.sampled_from([1, 4]))
def test_index_positions(seed: int, first: int, top_k: int, stride: int) -> None:
    rng, n, dk, heads = np.random.default_rng(seed), 5, 8, 3
    q, k, w = _whole(rng, n, heads * dk), _whole(rng, N_CELLS, dk), _whole(rng, n, heads)
    cache, run = _Cache("f32", 1, k, k[:, :0]), _run(first, n)
    source, weights = rows_of(q), rows_of(w)
    scores, y = empty_rows(n, -(-N_CELLS // stride)), empty_rows(n, top_k)
    strides = source.shape[1], weights.shape[1], scores.shape[1]
    launch(
        "index_scores", (0, dk, heads, 1, stride),
        [run.head, source, weights, cache.pages, scores, *strides, top_k, *cache.words, 0.5],
        (N_CELLS // 64, n + 1),
    )  # fmt: skip
    words = scores.shape[1], scores.shape[1], y.shape[1], top_k
    launch("index_choose", (stride, 0), [run.head, scores, y, *words], (1, n + 1))
    want = reference_sparse.index_positions(
        q, k, w, run.positions, n_heads=heads, top_k=top_k, scale=0.5, stride=stride
    )
    check(y, want, 0)


@cases
@given(st.integers(0, 999), st.integers(0, 187), st.integers(1, 5), st.sampled_from([5, 64]))
def test_index_blocks(seed: int, first: int, top_k: int, block: int) -> None:
    rng, n, dk, heads, local = np.random.default_rng(seed), 5, 8, 2, min(2, top_k)
    q, k = _whole(rng, n, heads * dk), _whole(rng, N_CELLS, dk)
    cache, run, source = _Cache("f16", 1, k, k[:, :0]), _run(first, n), rows_of(q)
    n_blocks = -(-N_CELLS // (16 * block)) * 16
    scores, y = empty_rows(n, heads * n_blocks), empty_rows(n, heads * top_k * block)
    words = source.shape[1], scores.shape[1], n_blocks, top_k
    launch(
        "index_block_scores", (1, dk, block, local),
        [run.head, source, cache.pages, scores, *words, *cache.words], (heads * n_blocks, n),
    )  # fmt: skip
    words = scores.shape[1], n_blocks, y.shape[1], top_k
    launch("index_choose", (block, 1), [run.head, scores, y, *words], (heads, n + 1))
    want = reference_sparse.index_blocks(
        q, k, run.positions, n_heads=heads, top_k=top_k, block=block, local=local
    )
    check(y, want, 0)


def test_scores_that_are_no_numbers_are_chosen_last() -> None:
    run, scores = _run(9, 1), empty_rows(1, 10, 0)
    scores[0, :10] = [np.nan, -np.inf, 3, np.nan, np.inf, -1, 3, 3, -0.0, 0]
    for top_k, want in ((3, [2, 4, 6]), (5, [2, 4, 6, 7, 8]), (9, [0, 1, 2, 4, 5, 6, 7, 8, 9])):
        y = empty_rows(1, top_k)
        launch("index_choose", (1, 0), [run.head, scores, y, 16, 16, y.shape[1], top_k], (1, 1))
        check(y, np.array([want], np.float32), 0)


@cases
@given(st.integers(0, 187), st.integers(1, 50), st.sampled_from([0, 3, 30]),
       st.sampled_from([1, 4]))  # fmt: skip
def test_lists(first: int, most: int, window: int, stride: int) -> None:
    n, run, y = 5, _run(first, 5), empty_rows(5, most)
    arguments = [count(n), run.positions, y, y.shape[1], most, window, stride]
    launch("list_positions", (), arguments, (1, n + 1))
    rules = {"most": most, "window": window, "stride": stride}
    check(y, reference_sparse.list_positions(run.positions, **rules), 0)


@cases
@given(st.integers(0, 999), st.integers(0, 187), st.integers(1, 8), st.sampled_from([1, 4, 9]))
def test_whole_blocks(seed: int, first: int, most: int, block: int) -> None:
    rng, n, run = np.random.default_rng(seed), 5, _run(first, 5)
    ends = np.full((n, most), -1, np.float32)
    for row, p in enumerate(run.positions):
        places = rng.permutation((p + 1) // block)[:most]
        ends[row, : len(places)] = np.sort(places) * block + block - 1
    x, width = rows_of(ends), most * block + block - 1
    y = empty_rows(n, width)
    arguments = [count(n), run.positions, x, y, x.shape[1], y.shape[1], most, block]
    launch("whole_blocks", (), arguments, (-(-width // 64), n + 1))
    check(y, reference_sparse.whole_blocks(ends, run.positions, block=block), 0)


@pytest.mark.parametrize("kv", few(("f32", "bf16/f16"), ("bf16/f16",)))
@pytest.mark.parametrize("form", few(("keys only", "joint", "sinks"), ("keys only", "joint")))
def test_sparse_attention(kv: str, form: str) -> None:
    rng, n, heads, groups, dk = np.random.default_rng(3), 4, 4, 2, 20
    dv, lists = 12, np.array([70, 9])
    if form == "keys only":
        heads, groups, lists = 3, 1, np.array([80])
    q, k = rng.standard_normal((n, heads * dk), np.float32), _whole(rng, N_CELLS, groups * dk)
    v, run = _whole(rng, N_CELLS, groups * (0 if form == "keys only" else dv)), _run(150, n)
    cache, sinks = _Cache(kv, groups, k, v), rng.standard_normal(heads).astype(np.float32)
    if form == "keys only":
        v = k[:, :dv]
    chosen = rng.permuted(np.tile(np.arange(160, dtype=np.float32), (n, 1)), axis=1)
    chosen = np.where(rng.random((n, sum(lists))) < 0.9, chosen[:, : sum(lists)], np.float32(-1))
    chosen[0] = np.nan  # sees nothing
    own_sinks = sinks if form == "sinks" else None
    ends = np.cumsum(lists)
    spans = np.stack([ends - lists, ends], 1).astype(np.float32)[np.arange(groups) % len(lists)]
    source, places, y = rows_of(q), rows_of(chosen), empty_rows(n, heads * dv)
    words = [z.shape[1] for z in (source, places, y)]
    words += [groups, heads // groups, cache.head_bytes, cache.key_bytes, *cache.words]
    launch(
        "sparse_attention",
        (*cache.kinds, dk, dv, form == "keys only", form == "joint", form == "sinks"),
        [run.head, source, places, y, cache.pages, spans.copy(), own_sinks, *words, 0.3],
        (heads, n + 1),
    )  # fmt: skip
    want = reference_sparse.sparse_attention(
        q, k, v, run.positions, chosen, n_heads=heads, n_kv_heads=groups, scale=0.3,
        lists=tuple(lists.tolist()),
        joint=form == "joint", sinks=own_sinks,
    )  # fmt: skip
    check(y, want, 4e-6, 2e-6)


@pytest.mark.parametrize("rule", few(((4, False), (4, True), (7, True)), ((7, True),)))
def test_compress(rule: tuple[int, bool]) -> None:
    ratio, overlap = rule
    rng, n, width, first = np.random.default_rng(0), 20, 80, 57
    x, scores = (rng.standard_normal((N_CELLS, width), np.float32) for _ in "xs")
    ape, own = rng.standard_normal((ratio, width), np.float32), width // (1 + overlap)
    for start in (0, first):
        cache, run, y = _Cache("f32", 1, x, scores), _run(start, n), empty_rows(n, own)
        words = y.shape[1], own, cache.key_bytes
        arguments = [run.head, cache.pages, ape, y, *words, *cache.words]
        launch("compress", (*cache.kinds, ratio, overlap, width), arguments, (2, n + 1))
        want = reference_compress.compress(
            x, scores, 0, run.positions, ratio=ratio, overlap=overlap, ape=ape
        )
        check(y, want, 4e-6, 2e-6)


@pytest.mark.parametrize("kind", ["norm", "neox"])
def test_rope_behind(kind: str) -> None:
    n, heads, size, start, behind = 4, 3, 22, 5, 100
    x = np.random.default_rng(0).standard_normal((n, heads * size), np.float32)
    positions = np.array([0, 99, 101, 1_000_000], np.int32)
    frequencies = (10000.0 ** -np.linspace(0, 1, 6)).astype(np.float32)
    source, y = rows_of(x), empty_rows(n, heads * size)
    words = source.shape[1], y.shape[1], heads * size, size, start, 12, behind, 1.2
    arguments = [count(n), positions, source, frequencies, y, *words]
    launch("rope_behind", (kind == "neox",), arguments, (2, n + 1))
    want = reference_compress.rope_behind(
        x, positions, n_heads=heads, kind=kind, frequencies=frequencies, magnitude=1.2,
        behind=behind, start=start,
    )  # fmt: skip
    check(y, want, 2e-6, 2e-6)
