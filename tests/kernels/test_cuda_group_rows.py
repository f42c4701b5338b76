"""Rows sorted by their experts, in the simulator."""

import numpy as np
import pytest
from gpu_products import tiles_of


@pytest.mark.parametrize(
    ("n_rows", "experts", "tokens"),
    [(1, 1, 8), (70, 5, 8), (300, 300, 8), (4100, 40, 8), (90, 1024, 16)],
)
def test_every_row_is_in_a_tile_of_its_expert(n_rows: int, experts: int, tokens: int) -> None:
    rng = np.random.default_rng(n_rows)
    ids = rng.integers(0, max(1, experts // 2 + 1), n_rows).astype(np.uint32)
    slots, tiles = tiles_of(ids, experts, tokens)
    n_tiles = tiles[0]
    assert n_tiles == sum(-(-int(n) // tokens) for n in np.bincount(ids))
    own, expert_of = slots[: n_tiles * tokens].reshape(n_tiles, tokens), tiles[1 : 1 + n_tiles]
    for expert in range(experts):
        rows = own[expert_of == expert].reshape(-1)
        expected = np.flatnonzero(ids == expert)
        assert np.array_equal(rows[: len(expected)], expected)  # ascending, at the front
        assert (rows[len(expected) :] == -1).all() and len(rows) - len(expected) < tokens
    assert (slots[n_tiles * tokens :] == -2).all() and (tiles[1 + n_tiles :] == -2).all()
