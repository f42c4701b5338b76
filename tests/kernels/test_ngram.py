"""Embeddings of n-grams: rows by hashes in Python's integers, across runs and sequences."""

from typing import Any

import numpy as np
import pytest
from launch import Matrix, pack, run_block

from jitllm.backends.base import Floats
from jitllm.backends.cpu_ops.ngram_embed import NGRAM_EMBED
from jitllm.backends.cpu_ops.signed_root_dot import SIGNED_ROOT_DOT
from jitllm.kernels import abi, host
from jitllm.kernels.reference import ngram as reference_ngram

MULTIPLIERS = np.array([2**63 + 5, 2**61 - 1, 12345678901234567], np.uint64)
SIZES = np.array([50, 37, 41, 60], np.int64)
OFFSETS = np.array([0, 50, 87, 128], np.int64)
END, WIDTH, N_ROWS = 7, 32, 188
HASHES = np.concatenate([MULTIPLIERS.view(np.int64), SIZES, OFFSETS])


def _tokens() -> Any:
    tokens = np.random.default_rng(1).integers(0, 40_000, 30)
    tokens[[4, 11, 12]] = END
    return tokens.astype(np.int32)


def _rows(tokens: list[int]) -> list[list[int]]:
    """The rows of every token by the definition, in integers of any size."""
    rows = []
    for t in range(len(tokens)):
        last = [tokens[t - j] if t >= j else END for j in range(3)]
        if last[1] == END:
            last[2] = END
        pair = last[0] * int(MULTIPLIERS[0]) % 2**64 ^ last[1] * int(MULTIPLIERS[1]) % 2**64
        triple = pair ^ last[2] * int(MULTIPLIERS[2]) % 2**64
        mixed = [pair, pair, triple, triple]
        rows.append([m % int(n) + int(o) for m, n, o in zip(mixed, SIZES, OFFSETS, strict=True)])
    return rows


def _table() -> tuple[Floats, Matrix]:
    table = np.random.default_rng(2).standard_normal((N_ROWS, WIDTH)).astype(np.float32)
    return table, pack("F32", table.view(np.uint8).reshape(-1), N_ROWS, WIDTH)


def _launch(
    w: Matrix, tokens: Any, segments: list[tuple[int, int, int, int]], states: Floats
) -> Floats:
    """Run tokens by segments of (row, rows, slot in, slot out)."""
    y = host.empty_rows(len(tokens), 4 * WIDTH)
    words = np.zeros((len(segments), abi.SEGMENT_WORDS), np.int64)
    names = [abi.SEGMENT_ROW, abi.SEGMENT_ROWS, abi.SEGMENT_STATE_IN, abi.SEGMENT_STATE_OUT]
    words[:, names] = segments
    run = run_block(
        len(tokens), TOKENS=tokens.ctypes.data, N_SEGMENTS=len(segments),
        SEGMENTS=words.ctypes.data,
    )  # fmt: skip
    host.launch(
        NGRAM_EMBED, run, params={"fmt": "F32"}, w=w.memory.at, k=WIDTH, y=y.ctypes.data,
        ldy=y.strides[0], hashes=HASHES.ctypes.data, longest=3, n_hashes=4, end=END,
        states=states.ctypes.data, slot_bytes=states.strides[0],
    )  # fmt: skip
    return y


def _states(n: int) -> Floats:
    return np.full((n, 16), np.nan, np.float32)


def test_rows_are_those_of_the_definition() -> None:
    tokens, (table, w) = _tokens(), _table()
    expected = _rows(tokens.tolist())
    twin = reference_ngram.ngram_rows(
        tokens.astype(np.int64), np.full(2, -1), multipliers=MULTIPLIERS, sizes=SIZES,
        offsets=OFFSETS, end=END,
    )  # fmt: skip
    np.testing.assert_array_equal(twin, expected)
    states = _states(1)
    got = _launch(w, tokens, [(0, 30, -1, 0)], states)
    np.testing.assert_array_equal(got, table[np.array(expected)].reshape(30, -1))
    assert states[0, :2].tolist() == [tokens[29] + 1, tokens[28] + 1]


@pytest.mark.parametrize("cuts", [(1, 2), (3, 12), (29,), (5, 6, 13)])
def test_runs_continue_each_other(cuts: tuple[int, ...]) -> None:
    tokens, (_, w) = _tokens(), _table()
    states = _states(2)
    whole = _launch(w, tokens, [(0, 30, -1, 0)], states)
    parts, slots = [], (-1, 0)
    for start, stop in zip((0, *cuts), (*cuts, 30), strict=True):
        part = tokens[start:stop].copy()
        parts.append(_launch(w, part, [(0, stop - start, *slots)], states))
        slots = slots[1], 1 - slots[1]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_sequences_of_a_run_do_not_meet() -> None:
    tokens, (_, w) = _tokens(), _table()
    states = _states(2)
    both = _launch(w, tokens, [(0, 10, -1, 0), (10, 20, -1, 1)], states)
    alone = _launch(w, tokens[10:].copy(), [(0, 20, -1, 1)], states)
    np.testing.assert_array_equal(both[10:], alone)


@pytest.mark.parametrize(("width", "groups"), [(64, 4), (30, 3), (100, 1)])
def test_signed_root_dot_equals_twin(width: int, groups: int) -> None:
    rng = np.random.default_rng(3)
    a, b = host.empty_rows(9, width), host.empty_rows(9, width)
    a[...], b[...] = rng.standard_normal((2, 9, width))
    a[3], a[4] = 0, 1e-9
    y = host.empty_rows(9, groups)
    host.launch(
        SIGNED_ROOT_DOT, run_block(9), params={}, rows=abi.N_TOKENS, a=a.ctypes.data,
        lda=a.strides[0], b=b.ctypes.data, ldb=b.strides[0], y=y.ctypes.data, ldy=y.strides[0],
        width=width // groups, n_groups=groups, scale=0.25,
    )  # fmt: skip
    expected = reference_ngram.signed_root_dot(a, b, groups, 0.25)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert not y[3].any() and set(np.round(np.abs(y[4]), 6)) == {np.float32(0.001)}
