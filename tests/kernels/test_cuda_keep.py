"""Keys and values on the simulated GPU: pages have the bytes that `cache_types` gives."""

from typing import Any

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import RunBlock, few, rows_of

from jitllm.backends.base import Floats
from jitllm.kernels import cache_types, reference
from jitllm.kernels.cache_types import NAMES, PAGE_TOKENS

N_PAGES = 6
# Of a sequence whose table goes round, and another: (rows, first position).
SEGMENTS, TABLES = [(5, 190), (3, 62)], ([4, 1], [0, 5])


def _keep(kv: str, sizes: tuple[int, int, int], k: Floats, v: Floats) -> Any:
    """Return pages, 0xFF where nothing was written."""
    heads, dk, dv = sizes
    keys, values = cache_types.pair(kv)
    rules = cache_types.rows_of(kv, sizes)
    key_bytes, value_bytes = (PAGE_TOKENS * rows.nbytes // heads for rows in rules)
    page_bytes = heads * (key_bytes + value_bytes)
    other = np.zeros(1, np.int32)  # a table of another cache
    run = RunBlock(SEGMENTS, [[other, np.array(table, np.int32)] for table in TABLES])
    pages = np.full((N_PAGES, page_bytes), 0xFF, np.uint8)
    a, b = rows_of(k), rows_of(v)
    arguments = [
        run.head, a, b, pages, a.shape[1], b.shape[1], heads, dk, dv, key_bytes + value_bytes,
        key_bytes, page_bytes, 1, run.n_caches,
    ]  # fmt: skip
    constants = NAMES.index(keys), NAMES.index(values)
    launch("keep", constants, arguments, (-(-heads * (dk + dv) // 64), len(k) + 1))
    return pages


def _wanted(kv: str, sizes: tuple[int, int, int], k: Floats, v: Floats) -> Any:
    rules = cache_types.rows_of(kv, sizes)
    page_bytes = PAGE_TOKENS * sum(rows.nbytes for rows in rules)
    pages, row = np.full((N_PAGES, page_bytes), 0xFF, np.uint8), 0
    for (rows, first), table in zip(SEGMENTS, TABLES, strict=True):
        part = slice(row, row + rows)
        reference.kv_write(
            k[part], v[part], pages, np.array(table), first, n_kv_heads=sizes[0], kv=kv
        )
        row += rows
    return pages


def _check(kv: str, sizes: tuple[int, int, int], seed: int = 0) -> None:
    rng, n = np.random.default_rng(seed), sum(rows for rows, _ in SEGMENTS)
    heads, dk, dv = sizes
    k = 4 * rng.standard_normal((n, heads * dk), np.float32)
    v = rng.standard_normal((n, heads * dv), np.float32)
    k[1], v[2] = 0, 0  # blocks that have no scale
    k[3] *= np.float32(1e3)
    np.testing.assert_array_equal(_keep(kv, sizes, k, v), _wanted(kv, sizes, k, v))


@pytest.mark.parametrize("kv", few(("f32/f16", "f16/bf16", "bf16/f32"), ("f32/f16",)))
@pytest.mark.parametrize("sizes", [(3, 20, 7), (1, 64, 0), (2, 96, 64)])
def test_numbers(kv: str, sizes: tuple[int, int, int]) -> None:
    _check(kv, sizes)


@pytest.mark.parametrize("kv", few(("q8_0/iq4_nl", "q5_1/q4_0", "q5_0/q4_1"), ("q8_0/iq4_nl",)))
def test_blocks(kv: str) -> None:
    _check(kv, (1, 96, 96))  # of an odd number of blocks, not rotated
    _check(kv, (2, 128, 64))
    _check(kv, (3, 32, 192))


@pytest.mark.slow
@pytest.mark.parametrize("kind", cache_types.QUANTIZED)
def test_blocks_of_every_type_and_size(kind: str) -> None:
    for seed, sizes in enumerate([(1, 1024, 512), (1, 2048, 32), (2, 192, 128), (1, 576, 64)]):
        _check(f"{kind}", sizes, seed)
        _check(f"f16/{kind}", sizes, seed)
        _check(f"{kind}/f16", sizes, seed)
