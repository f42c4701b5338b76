"""Pages of caches: cells go out and in bit for bit, whatever part of a page they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitllm.backends import open_backend
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec
from jitllm.kernels import formats
from jitllm.kernels.cache_types import FLOATS, NAMES

_SPECS = {
    "f16": CacheSpec(0, ((2, 3, 5), (1, 16, 8))),
    "q8_0": CacheSpec(0, ((2, 32, 64), (1, 128, 96))),
}
_RANGES = st.tuples(st.integers(0, PAGE_TOKENS), st.integers(0, PAGE_TOKENS)).map(sorted)


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("kv_dtype", [*NAMES, "q8_0/q4_0", "bf16/iq4_nl", "q5_1/f32"])
@settings(max_examples=20, deadline=None)
@given(cells=_RANGES, seed=st.integers(0, 99))
def test_cells_move_between_pools(device: str, kv_dtype: str, cells: list[int], seed: int) -> None:
    start, stop = cells
    backend = open_backend(device)
    spec = _SPECS["f16" if kv_dtype in FLOATS else "q8_0"]
    source, target = (backend.new_pool(spec, 4, kv_dtype) for _ in range(2))
    rng = np.random.default_rng(seed)
    for layer, (heads, dk, dv) in enumerate(spec.layers):
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


@pytest.mark.parametrize("kv_dtype", NAMES)
@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_pages_keep_what_the_type_can(device: str, kv_dtype: str) -> None:
    """What was read can be written again without a change, and what differs is near."""
    backend = open_backend(device)
    pool = backend.new_pool(CacheSpec(0, ((2, 64, 128),)), 2, kv_dtype)
    rng = np.random.default_rng(1)
    both = [rng.standard_normal((64, 2 * d)).astype(np.float32) for d in (64, 128)]
    pool.write(0, 1, *both)
    kept, cells = pool.read(0, 1), np.empty((2, 64 * pool.cell_bytes(0)), np.uint8)
    for old, new in zip(both, kept, strict=True):
        error = np.square(new - old).mean()
        assert error < {"f32": 1e-12, "f16": 1e-6, "bf16": 1e-5, "q8_0": 1e-4}.get(kv_dtype, 2e-2)
    pool.read_cells(0, 1, 0, 64, cells[0])
    kept[0][20] *= 1.5
    pool.write(0, 1, *kept)
    pool.read_cells(0, 1, 0, 64, cells[1])
    pool.copy_page(1, 0)
    for x, y in zip(pool.read(0, 0), kept, strict=True):
        np.testing.assert_array_equal(np.delete(x, 20, 0), np.delete(y, 20, 0))
    n_changed = np.count_nonzero(cells[0] != cells[1])
    assert 0 < n_changed <= pool.cell_bytes(0)
    backend.close()


def test_cells_of_quantized_types_are_blocks_in_rows() -> None:
    backend = open_backend("reference")
    pool = backend.new_pool(CacheSpec(0, ((2, 32, 96),)), 1, "q8_0/q4_1")
    rng = np.random.default_rng(2)
    keys, values = (rng.standard_normal((64, 2 * d)).astype(np.float32) for d in (32, 96))
    pool.write(0, 0, keys, values)
    out = np.empty(3 * pool.cell_bytes(0), np.uint8)
    pool.read_cells(0, 0, 10, 13, out)
    expected = [
        formats.quantize(kind, x[10:13].reshape(3, 2, -1).swapaxes(0, 1)).reshape(-1)
        for kind, x in (("Q8_0", keys), ("Q4_1", values))
    ]
    np.testing.assert_array_equal(out, np.concatenate(expected))
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
