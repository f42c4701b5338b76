"""Types of caches: bytes of the kernels and their twins, attention over them, Hadamard rotation."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitllm.kernels import cache_types, formats, host, reference
from jitllm.kernels.cache_types import FLOATS, QUANTIZED

# Every type once for keys and once for values.
PAIRS = [
    "q8_0/q4_0", "q4_0/q5_1", "q5_1/iq4_nl", "iq4_nl/q5_0", "q5_0/q4_1", "q4_1/bf16", "bf16/q8_0",
]  # fmt: skip


def _numbers(n: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows like those of models: some columns are larger than the others."""
    rng = np.random.default_rng([n, width, seed])
    whole = rng.integers(-4000, 4001, (n, width)) * 2.0 ** rng.integers(-2, 3, width)
    return (whole / 1000).astype(np.float32)


def _pages(kv: str, sizes: tuple[int, int, int], n: int) -> np.ndarray:
    n_bytes = 64 * cache_types.cell_bytes(kv, [sizes])
    return host.aligned(n * n_bytes).reshape(n, n_bytes)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_rotations_are_hadamard_matrices(size: int) -> None:
    x, matrix = _numbers(3, 2 * size), np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    there = cache_types.rotated(x, size)
    expected = x.reshape(-1, size) @ matrix / np.sqrt(size)
    np.testing.assert_allclose(there.reshape(-1, size), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cache_types.rotated(there, size), x, rtol=1e-4, atol=1e-5)


def test_sizes_of_rotations() -> None:
    """Keys take the largest power of two that fits from 64 on, values the least."""
    keys = {64: 64, 128: 128, 192: 64, 576: 64, 256: 256, 96: 0, 32: 0, 0: 0, 4096: 1024}
    assert {n: cache_types.hadamard_of_keys(n) for n in keys} == keys
    assert [cache_types.hadamard_of_values(n) for n in (64, 128, 512, 96, 0)] == [64, 64, 64, 0, 0]


@pytest.mark.parametrize("kv", PAIRS)
@pytest.mark.parametrize(("dk", "dv"), [(64, 64), (128, 192), (96, 32)])
def test_kv_write_equals_twin(kv: str, dk: int, dv: int) -> None:
    k, v = _numbers(150, 3 * dk), _numbers(150, 3 * dv, 1)
    k[3], v[5] = 0, 0  # rows without a scale
    k[7, :dk], v[8, :dv] = -1, 2  # all of one size
    pages = [_pages(kv, (3, dk, dv), 5) for _ in range(2)]
    table = np.array([4, 0, 2, 1])
    with host.threads(2):
        host.kv_write(k, v, pages[0], table, 50, n_kv_heads=3, kv=kv)
    reference.kv_write(k, v, pages[1], table, 50, n_kv_heads=3, kv=kv)
    np.testing.assert_array_equal(pages[0], pages[1])


@pytest.mark.parametrize("kv", PAIRS)
@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 68), blocks=st.integers(1, 5), scale=st.integers(-20, 4), seed=st.integers(0)
)
def test_rows_are_blocks_of_the_format(kv: str, n: int, blocks: int, scale: int, seed: int) -> None:
    """Kernels write what `formats.quantize` makes of the rotated rows; iq4_nl tries one scale."""
    rng, width = np.random.default_rng(seed), 32 * blocks
    x = (rng.standard_normal((n, width)) * 10.0**scale).astype(np.float32)
    pages, sizes = _pages(kv, (1, width, width), 2), (1, width, width)
    host.kv_write(x, x, pages, np.array([1, 0]), 60, n_kv_heads=1, kv=kv)
    keys, values = zip(*(cache_types.page_views(kv, sizes, page) for page in pages), strict=True)
    both = [x[0].T for x in keys[::-1]], [x[0] for x in values[::-1]]
    for rows, cells in zip(cache_types.rows_of(kv, sizes), both, strict=True):
        found = np.ascontiguousarray(np.concatenate(cells)[60 : 60 + n]).view(np.uint8)
        rotated = cache_types.rotated(x, rows.hadamard)
        if rows.kind == "iq4_nl":
            _check_fit(found, rotated)
        else:
            np.testing.assert_array_equal(found, formats.quantize(rows.kind.upper(), rotated))


def _check_fit(found: np.ndarray, x: np.ndarray) -> None:
    """The search of `quantize` weighs errors by size; plain ones were up to 2.6 times as large."""
    best = formats.quantize("IQ4_NL", x)
    errors = [
        np.square(formats.dequantize("IQ4_NL", data, x.shape) - x).sum() for data in (found, best)
    ]
    assert errors[0] <= 3 * errors[1] + 1e-14 * x.size * np.abs(x).max()


def _expected(
    kv: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, n_kv: int, **options: Any
) -> np.ndarray:
    """Attention in float64 over what the cache remembers of k and v."""
    sizes = n_kv, k.shape[1] // n_kv, v.shape[1] // n_kv
    keys, values = (
        rows.decode(rows.encode(x.reshape(len(x), n_kv, rows.width))).reshape(x.shape)
        for rows, x in zip(cache_types.rows_of(kv, sizes), (k, v), strict=True)
    )
    at = np.arange(len(k) - len(q), len(k)), np.arange(len(k))
    return reference.attention(q, keys, values, *at, n_kv_heads=n_kv, **options)


@pytest.mark.parametrize("kv", PAIRS)
@settings(max_examples=8, deadline=None)
@given(
    n_keys=st.integers(1, 200),
    n_queries=st.integers(1, 40),
    n_kv=st.integers(1, 2),
    group=st.integers(1, 5),
    dk=st.sampled_from([32, 64, 96, 128]),
    dv=st.sampled_from([32, 64, 160]),
    window=st.sampled_from([0, 1, 65]),
)
def test_attention_equals_twin(
    kv: str, n_keys: int, n_queries: int, n_kv: int, group: int, dk: int, dv: int, window: int
) -> None:
    n_queries = min(n_queries, n_keys)
    q = _numbers(n_queries, n_kv * group * dk)
    k, v = _numbers(n_keys, n_kv * dk, 1), _numbers(n_keys, n_kv * dv, 2)
    options: dict[str, Any] = dict(n_heads=n_kv * group, scale=0.1, window=window)
    at = np.arange(n_keys - n_queries, n_keys), np.arange(n_keys)
    actual = host.attention(q, k, v, *at, kv=kv, n_kv_heads=n_kv, **options)
    expected = _expected(kv, q, k, v, n_kv, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5 * np.abs(v).max())


@pytest.mark.parametrize("kv", PAIRS)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_bits_do_not_depend_on_chunks_or_threads(kv: str, n_threads: int) -> None:
    """Chunks are also written one after the other; cells behind them hold what was there."""
    n, n_kv, heads, dk, dv = 700, 2, 6, 64, 96
    q, k, v = _numbers(n, heads * dk), _numbers(n, n_kv * dk, 1), _numbers(n, n_kv * dv, 2)
    table = np.random.default_rng(0).permutation(11)
    pages = [_pages(kv, (n_kv, dk, dv), 11) for _ in range(2)]
    options: dict[str, Any] = dict(n_heads=heads, n_kv_heads=n_kv, dv=dv, scale=0.1, kv=kv)
    host.kv_write(k, v, pages[0], table, 0, n_kv_heads=n_kv, kv=kv)
    whole = host.paged_attention(q, pages[0], [(n, 0, table)], **options)
    with host.threads(n_threads):
        for first, end in ((0, 1), (1, 65), (65, 67), (67, 600), (600, 699), (699, 700)):
            rows = slice(first, end)
            host.kv_write(k[rows], v[rows], pages[1], table, first, n_kv_heads=n_kv, kv=kv)
            part = host.paged_attention(q[rows], pages[1], [(end - first, first, table)], **options)
            np.testing.assert_array_equal(part.view(np.uint32), whole[rows].view(np.uint32))
    cells = [cache_types.page_views(kv, (n_kv, dk, dv), p[table[3]]) for p in pages]
    for one, other in zip(*cells, strict=True):
        np.testing.assert_array_equal(one, other)


RECORDED = {
    "q8_0/q4_0": 3556713966, "q4_0/q5_1": 3812850985, "q5_1/iq4_nl": 2993573846,
    "iq4_nl/q5_0": 1181274875, "q5_0/q4_1": 2224864257, "q4_1/bf16": 1836392986,
    "bf16/q8_0": 2967226449,
}  # fmt: skip


@pytest.mark.parametrize("kv", RECORDED)
def test_outputs_have_the_recorded_bits(kv: str) -> None:
    """They are the same at every machine level."""
    q, k, v = _numbers(40, 6 * 128), _numbers(300, 2 * 128, 1), _numbers(300, 2 * 64, 2)
    at = np.arange(260, 300), np.arange(300)
    out = host.attention(q, k, v, *at, kv=kv, n_heads=6, n_kv_heads=2, scale=0.1)
    assert zlib.crc32(out.tobytes()) == RECORDED[kv]


def test_names_of_types() -> None:
    assert cache_types.spelled("q8_0/q8_0") == cache_types.spelled(("q8_0", "q8_0")) == "q8_0"
    assert cache_types.spelled(["f16", "q4_0"]) == "f16/q4_0"
    assert cache_types.pair("f16/q4_0") == ("f16", "q4_0")
    for wrong in ("", "q8", "q8_0/", "f16/f16/f16", ("f16",) * 3, "Q8_0"):
        with pytest.raises(ValueError, match="kv_dtype must be one of f32, f16, bf16, q8_0"):
            cache_types.spelled(wrong)


def test_heads_are_whole_blocks() -> None:
    for kind in QUANTIZED:
        with pytest.raises(ValueError, match="multiple of 32 numbers, this model's have 80; use"):
            cache_types.rows_of(kind, (2, 80, 64))
    for kind in FLOATS:
        cache_types.rows_of(kind, (2, 80, 3))
