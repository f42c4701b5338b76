"""Pages of caches: cells go out and in bit for bit, whatever part of a page they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitllm.backends import open_backend
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec

_SPEC = CacheSpec(0, ((2, 3, 5), (1, 16, 8)))
_RANGES = st.tuples(st.integers(0, PAGE_TOKENS), st.integers(0, PAGE_TOKENS)).map(sorted)


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("kv_dtype", ["f16", "f32"])
@settings(max_examples=20, deadline=None)
@given(cells=_RANGES, seed=st.integers(0, 99))
def test_cells_move_between_pools(device: str, kv_dtype: str, cells: list[int], seed: int) -> None:
    start, stop = cells
    backend = open_backend(device)
    source, target = (backend.new_pool(_SPEC, 4, kv_dtype) for _ in range(2))
    rng = np.random.default_rng(seed)
    for layer, (heads, dk, dv) in enumerate(_SPEC.layers):
        before = [rng.standard_normal((64, heads * d)).astype(np.float32) for d in (dk, dv)]
        source.write(layer, 3, *before)
        was = target.read(layer, 1)
        moved = np.full((stop - start) * source.cell_bytes(layer), 0xA5, np.uint8)
        source.read_cells(layer, 3, start, stop, moved)
        target.write_cells(layer, 1, start, stop, moved)
        for old, new, now in zip(was, source.read(layer, 3), target.read(layer, 1), strict=True):
            np.testing.assert_array_equal(now[start:stop], new[start:stop])
            np.testing.assert_array_equal(now[:start], old[:start])
            np.testing.assert_array_equal(now[stop:], old[stop:])
        assert source.page_bytes == 64 * sum(source.cell_bytes(i) for i in range(2))
    backend.close()


def test_what_cells_look_like() -> None:
    backend = open_backend("reference")
    pool = backend.new_pool(CacheSpec(0, ((2, 3, 1),)), 1, "f32")
    keys = np.arange(64 * 6, dtype=np.float32).reshape(64, 6)
    values = -np.arange(64 * 2, dtype=np.float32).reshape(64, 2)
    pool.write(0, 0, keys, values)
    out = np.empty(2 * pool.cell_bytes(0), np.uint8)
    pool.read_cells(0, 0, 10, 12, out)
    numbers = out.view(np.float32)
    seen_keys = numbers[:12].reshape(2, 3, 2).transpose(2, 0, 1).reshape(2, 6)
    seen_values = numbers[12:].reshape(2, 2, 1).transpose(1, 0, 2).reshape(2, 2)
    np.testing.assert_array_equal(seen_keys, keys[10:12])
    np.testing.assert_array_equal(seen_values, values[10:12])
