"""Attention against its twin, and its bits in other chunks, batches and on two threads."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitllm.kernels import host, reference

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def _inputs(
    n_queries: int, n_keys: int, n_heads: int, n_kv: int, dk: int, dv: int, kv: str = "f16"
) -> Arrays:
    """Return q, k, v; k and v hold numbers of the cache's type."""
    rng = np.random.default_rng([n_queries, n_keys, dk])
    shapes = (n_queries, n_heads * dk), (n_keys, n_kv * dk), (n_keys, n_kv * dv)
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    if kv == "f16":
        k, v = k.astype(np.float16).astype(np.float32), v.astype(np.float16).astype(np.float32)
    return q, k, v


def _check(arrays: Arrays, kv: str, **options: Any) -> None:
    q, k, v = arrays
    at = np.arange(len(k) - len(q), len(k)), np.arange(len(k))
    actual = host.attention(q, k, v, *at, kv=kv, **options)
    expected = reference.attention(q, k, v, *at, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kv", ["f16", "f32"])
@pytest.mark.parametrize(
    ("n_queries", "n_keys", "n_heads", "n_kv", "dk", "dv"),
    [
        (1, 1, 1, 1, 2, 2),
        (1, 700, 9, 3, 64, 64),
        (63, 100, 4, 2, 20, 36),
        (15, 15, 8, 2, 80, 80),
        (33, 1100, 7, 1, 16, 17),
        (5, 66, 4, 4, 128, 128),
        (2, 130, 4, 1, 576, 512),
        (300, 300, 2, 1, 256, 256),
    ],
)
def test_attention_equals_twin(
    kv: str, n_queries: int, n_keys: int, n_heads: int, n_kv: int, dk: int, dv: int
) -> None:
    arrays = _inputs(n_queries, n_keys, n_heads, n_kv, dk, dv, kv)
    _check(arrays, kv, n_heads=n_heads, n_kv_heads=n_kv, scale=dk**-0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"window": 40},
        {"window": 512},
        {"soft_cap": 5.0},
        {"sinks": np.array([0.5, -3.0, 20.0, 0.0], np.float32)},
        {"window": 100, "soft_cap": 30.0, "sinks": np.array([1, 2, 3, 4], np.float32)},
        {"window": 100, "chunked": True},
        {"window": 512, "chunked": True},
        {"slopes": np.array([0.5, 0.01, 2.0, 0.0], np.float32)},
        {"window": 70, "slopes": np.array([0.5, 0.01, 2.0, 0.0], np.float32)},
        {"table": np.linspace(-3, 3, 4 * 257, dtype=np.float32).reshape(4, 257)},
        {"table": np.linspace(-3, 3, 4 * 3, dtype=np.float32).reshape(4, 3), "window": 70},
    ],
    ids=str,
)
def test_options_equal_twin(options: dict[str, Any]) -> None:
    arrays = _inputs(90, 800, 4, 2, 32, 32)
    _check(arrays, "f16", n_heads=4, n_kv_heads=2, scale=0.2, **options)


@pytest.mark.parametrize("window", [0, 1, 30, 31, 128])
@pytest.mark.parametrize(
    "by_distance",
    [
        {},
        {"slopes": np.array([0.5, 0.01, 2.0, 0.0], np.float32)},
        {"table": np.sin(np.arange(4 * 95, dtype=np.float32)).reshape(4, 95)},
    ],
    ids="-".join,
)
def test_without_causal_rows_see_both_sides(window: int, by_distance: dict[str, Any]) -> None:
    arrays = _inputs(150, 150, 4, 2, 32, 48)
    _check(arrays, "f16", n_heads=4, n_kv_heads=2, scale=0.2, causal=False, window=window,
           **by_distance)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    n_keys=st.integers(1, 200),
    n_queries=st.integers(1, 200),
    n_kv=st.integers(1, 3),
    group=st.integers(1, 5),
    dk=st.sampled_from([2, 15, 16, 40]),
    dv=st.sampled_from([1, 16, 33, 64, 70]),
    window=st.sampled_from([0, 1, 3, 64, 65]),
)
def test_any_shape_equals_twin(
    n_keys: int, n_queries: int, n_kv: int, group: int, dk: int, dv: int, window: int
) -> None:
    n_queries, n_heads = min(n_queries, n_keys), n_kv * group
    arrays = _inputs(n_queries, n_keys, n_heads, n_kv, dk, dv)
    _check(arrays, "f16", n_heads=n_heads, n_kv_heads=n_kv, scale=0.3, window=window)


class _Cache:
    """A paged cache of one sequence, its pages NaN until written."""

    def __init__(self, keys: int, n_heads: int, n_kv: int, dk: int, dv: int) -> None:
        self.q, self.k, self.v = _inputs(keys, keys, n_heads, n_kv, dk, dv)
        self.options = dict(n_heads=n_heads, n_kv_heads=n_kv, dv=dv, scale=0.2)
        self.n_kv, n_pages = n_kv, -(-keys // 64)
        numbers = n_kv * (dk + dv) * 64
        self.pages = host.aligned(2 * n_pages * numbers).view(np.float16).reshape(n_pages, -1)
        self.table = np.random.default_rng(0).permutation(n_pages)

    def write(self, first: int, end: int) -> None:
        host.kv_write(self.k[first:end], self.v[first:end], self.pages, self.table, first,
                      n_kv_heads=self.n_kv)  # fmt: skip

    def attend(self, first: int, end: int, **options: Any) -> np.ndarray:
        segment = (end - first, first, self.table)
        return host.paged_attention(
            self.q[first:end], self.pages, [segment], **{**self.options, **options}
        )


_RARE: list[dict[str, Any]] = [
    {"window": 700, "chunked": True},
    {"slopes": np.linspace(0.001, 1, 6, dtype=np.float32)},
    {"table": np.sin(np.arange(6 * 101, dtype=np.float32)).reshape(6, 101)},
]


@pytest.mark.parametrize("options", [{"window": n} for n in (0, 100, 700)] + _RARE, ids=str)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_bits_do_not_depend_on_chunks_or_threads(options: dict[str, Any], n_threads: int) -> None:
    keys = 1200
    cache = _Cache(keys, 6, 2, 32, 40)
    cache.write(0, keys)
    whole = cache.attend(0, keys, **options)
    with host.threads(n_threads):
        for size in (1, 7, 64, 333, 512, keys):
            starts = range(0, keys, size) if size > 7 else [0, 1, 63, 511, 512, 513, 1100, 1190]
            for first in starts:
                end = min(first + size, keys)
                part = cache.attend(first, end, **options)
                assert np.array_equal(part.view(np.uint32), whole[first:end].view(np.uint32))


def test_bits_are_those_of_a_cache_still_being_written() -> None:
    """Cells after the last written position hold NaN, as do pages not yet used."""
    cache = _Cache(300, 4, 2, 16, 16)
    parts = []
    for first, end in ((0, 70), (70, 71), (71, 128), (128, 300)):
        cache.write(first, end)
        parts.append(cache.attend(first, end))
    assert np.array_equal(np.concatenate(parts), cache.attend(0, 300))


def test_bits_do_not_depend_on_the_other_sequences() -> None:
    """Three sequences in one run, their pages in one pool."""
    cache, dk = _Cache(64 * 20, 6, 2, 32, 32), 32
    tables = np.split(np.random.default_rng(1).permutation(20).astype(np.int32), [8, 16])
    tables = [np.resize(table, 10) for table in tables]
    lengths, counts = [500, 512, 200], [1, 30, 200]
    q: list[np.ndarray] = []
    segments, singles = [], []
    for length, count, table in zip(lengths, counts, tables, strict=True):
        start = 100 * len(q)
        k, v = cache.k[start : start + length], cache.v[start : start + length]
        host.kv_write(k, v, cache.pages, table, 0, n_kv_heads=2)
        q.append(cache.q[start : start + count])
        segments.append((count, length - count, table))
        singles.append((q[-1], segments[-1]))
    options = {**cache.options, "dv": dk}
    alone = [host.paged_attention(x, cache.pages, [s], **options) for x, s in singles]  # type: ignore[arg-type]
    for n_threads in (1, 2):
        with host.threads(n_threads):
            both = host.paged_attention(np.concatenate(q), cache.pages, segments, **options)  # type: ignore[arg-type]
        assert np.array_equal(both, np.concatenate(alone))


def test_window_cache_reuses_its_pages() -> None:
    """A ring of 4 pages serves a window of 100 in chunks of 64."""
    cache, ring = _Cache(900, 4, 2, 16, 24), np.array([2, 0, 3, 1])
    full = _Cache(900, 4, 2, 16, 24)
    full.write(0, 900)
    cache.table = ring
    for first in range(0, 900, 64):
        end = min(first + 64, 900)
        cache.write(first, end)
        expected = full.attend(first, end, window=100)
        assert np.array_equal(cache.attend(first, end, window=100), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_kv_write_equals_twin(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    k = rng.standard_normal((150, 3 * 20)).astype(np.float32)
    v = rng.standard_normal((150, 3 * 7)).astype(np.float32)
    pages = [np.full((5, 3 * 27 * 64), np.nan, dtype) for _ in range(2)]
    table = np.array([4, 0, 2, 1])
    with host.threads(2):
        host.kv_write(k, v, pages[0], table, 50, n_kv_heads=3)
    reference.kv_write(k, v, pages[1], table, 50, n_kv_heads=3)
    assert np.array_equal(pages[0], pages[1], equal_nan=True)


def test_nan_in_a_key_reaches_only_rows_that_see_it() -> None:
    cache = _Cache(130, 2, 1, 16, 16)
    cache.k[100, 3] = np.nan
    cache.v[90, 5] = np.inf
    cache.write(0, 130)
    out = cache.attend(0, 130)
    assert np.isfinite(out[:90]).all()
    assert np.isnan(out[100:]).all()
    assert np.isinf(out[90:100].reshape(10, 2, 16)[..., 5]).all()


def test_large_scores_do_not_overflow() -> None:
    q, k, v = _inputs(4, 70, 2, 1, 16, 16)
    _check((1000 * q, k, v), "f16", n_heads=2, n_kv_heads=1, scale=1.0)


def test_arguments_are_checked() -> None:
    q, k, v = _inputs(2, 4, 1, 1, 4, 4)
    options = dict(n_heads=1, n_kv_heads=1, scale=1.0)
    with pytest.raises(ValueError, match="queries 3 to 4 do not fit 4 keys"):
        host.attention(q, k, v, np.array([3, 4]), np.arange(4), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="capped or lowered"):
        slopes = np.ones(1, np.float32)
        at = np.array([2, 3]), np.arange(4)
        host.attention(q, k, v, *at, soft_cap=1.0, slopes=slopes, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"table must have shape \(1, 2 R \+ 1\), got \(1, 4\)"):
        table = np.ones((1, 4), np.float32)
        host.attention(q, k, v, *at, table=table, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kv_dtype must be one of"):
        host.attention(q, k, v, np.array([2, 3]), np.arange(4), kv="q8", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a page must have 1024 bytes, got 20"):
        host.kv_write(k, v, np.zeros((1, 10), np.float16), np.zeros(1, int), 0, n_kv_heads=1)
