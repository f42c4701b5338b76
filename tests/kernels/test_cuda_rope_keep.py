"""Heads before attention on the simulated GPU: the numbers of norms, rotation and cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import RunBlock, check, empty_rows, few, rows_of

from jitllm.backends.base import Floats
from jitllm.kernels import cache_types, reference
from jitllm.kernels.cache_types import NAMES, PAGE_TOKENS

N_PAGES, EPS, MAGNITUDE = 6, 1e-6, 1.25
SEGMENTS, TABLES = [(5, 190), (3, 62)], ([4, 1], [0, 5])  # the first table goes round
N_TOKENS = sum(rows for rows, _ in SEGMENTS)
FORMS = [  # of caches; heads, columns of keys and values; heads of queries, columns that turn
    ("f16", (2, 64, 64), 6, 64, "neox"), ("f32/bf16", (1, 80, 40), 3, 20, "norm"),
    ("bf16/f16", (3, 256, 7), 3, 256, "norm"), ("f16", (1, 20, 4), 5, 0, "neox"),
]  # fmt: skip
POSITIONS = np.concatenate([np.arange(first, first + rows) for rows, first in SEGMENTS])


def _wanted(
    kv: str, sizes: tuple[int, int, int], n_rot: int, kind: str, w: Floats | None,
    parts: Sequence[Floats], frequencies: Floats,
) -> tuple[Floats, Any]:  # fmt: skip
    """Return the twins' queries, and their pages, 0xFF where nothing is written."""
    heads, dk, _ = sizes
    turned = list[Floats]()
    for i, x in enumerate(parts[:2]):
        x = x if w is None else reference.rms_norm(x, w[i], EPS, group=dk)
        turned.append(reference.rope(
            x, POSITIONS, n_heads=x.shape[1] // dk, head_dim=dk, n_rot=n_rot,
            frequencies=frequencies, magnitude=MAGNITUDE, kind=kind,
        ))  # fmt: skip
    page_bytes = PAGE_TOKENS * sum(rows.nbytes for rows in cache_types.rows_of(kv, sizes))
    pages, row = np.full((N_PAGES, page_bytes), 0xFF, np.uint8), 0
    for (rows, first), table in zip(SEGMENTS, TABLES, strict=True):
        part = slice(row, row + rows)
        reference.kv_write(
            turned[1][part], parts[2][part], pages, np.array(table), first, n_kv_heads=heads, kv=kv
        )
        row += rows
    return turned[0], pages


def _numbers(pages: Any, kv: str, sizes: tuple[int, int, int]) -> list[Floats]:
    """Return keys and values of pages as float32."""
    heads, dk, dv = sizes
    by_head, found = pages.reshape(N_PAGES, heads, -1), list[Floats]()
    split = PAGE_TOKENS * cache_types.rows_of(kv, sizes)[0].nbytes // heads
    for kind, part in zip(cache_types.pair(kv), np.split(by_head, [split], 2), strict=True):
        raw = np.ascontiguousarray(part)
        if kind == "bf16":
            found.append((raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32))
        else:
            found.append(raw.view({"f32": np.float32, "f16": np.float16}[kind]).astype(np.float32))
    return found


@pytest.mark.parametrize("is_normed", [False, True])
@pytest.mark.parametrize("form", few(FORMS, FORMS[:2]))
def test_heads_before_attention(form: Any, is_normed: bool) -> None:
    kv, sizes, n_heads, n_rot, kind = form
    rng, (heads, dk, dv) = np.random.default_rng(1), sizes
    widths = n_heads * dk, heads * dk, heads * dv
    parts = tuple(2 * rng.standard_normal((N_TOKENS, n), np.float32) for n in widths)
    w = rng.standard_normal((2, dk), np.float32) if is_normed else None
    frequencies = (rng.random(n_rot // 2) ** 2).astype(np.float32)
    angles = POSITIONS.astype(np.float32)[:, None] * frequencies
    turns = np.stack([np.cos(angles, dtype=np.float64), np.sin(angles, dtype=np.float64)], -1)
    queries, pages = _wanted(kv, sizes, n_rot, kind, w, parts, frequencies)
    key_bytes, head_bytes = (
        PAGE_TOKENS * n // heads
        for n in np.cumsum([rows.nbytes for rows in cache_types.rows_of(kv, sizes)])
    )
    run = RunBlock(SEGMENTS, [[np.array(table, np.int32)] for table in TABLES])
    q, k, v = (rows_of(x) for x in parts)
    y, made = empty_rows(N_TOKENS, widths[0]), np.full_like(pages, 0xFF)
    gains = [None, None] if w is None else [w[0].copy(), w[1].copy()]
    arguments = [
        run.head, q, k, v, y, made, *gains, turns.astype(np.float32),
        *(x.shape[1] for x in (q, k, v, y)), n_heads, heads, dk, dv, n_rot,
        head_bytes, key_bytes, pages.shape[1], 0, run.n_caches, MAGNITUDE, EPS,
    ]  # fmt: skip
    constants = *(NAMES.index(x) for x in cache_types.pair(kv)), kind == "neox", is_normed
    launch("rope_keep", constants, arguments, (-(-(n_heads + 2 * heads) // 4), N_TOKENS + 1))
    check(y, queries, 2e-5, 1e-5)
    for found, wanted in zip(_numbers(made, kv, sizes), _numbers(pages, kv, sizes), strict=True):
        np.testing.assert_allclose(found, wanted, 1e-2 if "bf16" in kv else 2e-3, 1e-5)
