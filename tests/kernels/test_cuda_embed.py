"""Rows of packed tables on the simulated GPU: bits are those of the formats.

They are chosen by number, or by hashes of the last tokens.
"""

from typing import Any

import numpy as np
import pytest
from blocks import random_blocks
from gpu_launch import launch
from gpu_rows import RunBlock, check, count, empty_rows, few
from launch import pack

from jitllm.kernels import formats
from jitllm.kernels.reference import ngram as reference_ngram

N, FAST = 37, ("BF16", "Q5_K")


def _check(fmt: str, k: int, ids: Any) -> None:
    n_blocks = N * k // formats.get(fmt).block_size
    data = random_blocks(fmt, n_blocks, np.random.default_rng(k))
    values = formats.dequantize(fmt, data, (N, k))
    matrix = pack(fmt, data, N, k)
    n, y = len(ids), empty_rows(len(ids), k)
    groups = -(-k // (32 * 64))
    arguments = [count(n), np.array(ids, np.int32), matrix.memory.bytes, y, y.shape[1], k, 0]
    launch("embed", (), arguments, (groups, n + 1), fmt=fmt)
    np.testing.assert_array_equal(y[:n, :k].view(np.int32), values[ids].view(np.int32))
    check(y, values[ids], 0)


@pytest.mark.parametrize("fmt", few(formats.names(), FAST))
def test_rows(fmt: str) -> None:
    layout = formats.get(fmt)
    if layout.scales == "float":
        _check(fmt, 50, [36, 0, 17, 17])
    _check(fmt, max(layout.block_size, 32), [36, 0, 17, 17])


@pytest.mark.parametrize("fmt", few(formats.names(), FAST[-1:]))
def test_long_rows(fmt: str) -> None:
    _check(fmt, 2304, [35, 1, 2, 3])
    _check(fmt, 256, range(N))


def test_rows_by_hashes() -> None:
    """Two runs of one sequence, beside the beginning of another; states have slots."""
    rules: dict[str, Any] = {
        "multipliers": np.array([2**63 + 5, 2**61 - 1, 12345678901234567], np.uint64),
        "sizes": np.array([50, 37, 41, 60], np.int64), "offsets": np.array([0, 50, 87, 128]),
        "end": 7,
    }  # fmt: skip
    hashes = np.concatenate([x.view(np.int64) for x in list(rules.values())[:3]])
    table = np.random.default_rng(2).standard_normal((188, 40), np.float32)
    matrix, states = (
        pack("F32", table.view(np.uint8), *table.shape),
        np.full((3, 16), np.nan, np.float32),
    )
    rng = np.random.default_rng(1)
    one, two = (rng.integers(0, 9, n).astype(np.int32) for n in (30, 6))
    none = np.full(2, -1)
    want = [
        reference_ngram.ngram_rows(tokens.astype(np.int64), none, **rules) for tokens in (one, two)
    ]

    def run(tokens: Any, rows: list[int], slots: list[tuple[int, int]], ids: Any) -> None:
        block = RunBlock([(n, 0) for n in rows], slots=slots)
        y = empty_rows(len(tokens), 160)
        memory, words = matrix.memory.bytes, (y.shape[1], 40, 160, 1, 7, 4 * states.shape[1])
        arguments = [block.head, tokens, memory, hashes, states, y, *words]
        launch("ngram_embed", (3, 4), arguments, (4, len(tokens) + 1), fmt="F32")
        check(y, table[ids].reshape(len(tokens), -1), 0)

    run(one[:17].copy(), [17], [(-1, 1)], want[0][:17])
    np.testing.assert_array_equal(states[1, :2], one[[16, 15]] + 1)
    run(one[17:18].copy(), [1], [(1, 0)], want[0][17:18])
    np.testing.assert_array_equal(states[0, :2], one[[17, 16]] + 1)
    both, ids = np.concatenate([two[:1], one[18:]]), np.concatenate([want[1][:1], want[0][18:]])
    run(both, [1, 12], [(-1, 2), (0, 1)], ids)
    np.testing.assert_array_equal(states[2, :2], [two[0] + 1, 0])
