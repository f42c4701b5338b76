"""Quantized activations: codes, scales and sums, in tiles of any fill."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from launch import TILE_ROWS, Quantized, bits, quantize

from jitllm.kernels import host, packed, reference

N, D, S = packed.FIELD_N, packed.FIELD_D, packed.FIELD_S
LO, HI = (packed.FIELD_N_LO, packed.FIELD_S_LO), (packed.FIELD_N_HI, packed.FIELD_S_HI)


def _check(x: np.ndarray, got: Quantized) -> None:
    """Compare all fields of finite rows x with the twin's codes and scales."""
    words, codes = got.fields()
    floats = words.view(np.float32)
    expected, scales = reference.quantize_activations(x)
    rows = slice(0, len(x))
    assert np.array_equal(codes[rows], expected)
    assert np.array_equal(bits(floats[D, rows]), bits(scales))
    halves = expected.astype(np.int32).reshape(len(x), -1, 2, 16).sum(axis=-1)
    for fields, part in ((LO, halves[..., 0]), (HI, halves[..., 1]), ((N, S), halves.sum(axis=-1))):
        assert np.array_equal(words[fields[0], rows], -128 * part)
        sums = scales * part.astype(np.float32)
        assert np.array_equal(bits(floats[fields[1], rows]), bits(sums))
    assert not words[:, len(x) :].any() and not codes[len(x) :].any()


@pytest.mark.parametrize("n_rows", [1, 2, 5, 6, 7, 13, 64])
def test_equals_twin(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    for width in (32, 96, 1536):
        x = (rng.standard_normal((n_rows, width)) * 10 ** rng.uniform(-9, 9)).astype(np.float32)
        _check(x, quantize(x))


def test_two_threads() -> None:
    x = np.random.default_rng(0).standard_normal((100, 320)).astype(np.float32)
    with host.threads(2):
        _check(x, quantize(x))


def test_a_run_of_one_token_has_tiles_of_one_row() -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    got = quantize(x, n_tokens=1)
    assert got.tile_rows == 1
    _check(x, got)


@settings(max_examples=60, deadline=None)
@given(
    x=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 2 * TILE_ROWS + 1), st.sampled_from([32, 64])),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_numbers(x: np.ndarray) -> None:
    with np.errstate(under="ignore", over="ignore"):
        _check(x, quantize(x))


def test_ties_round_to_even() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :6] = 127, 0.5, 1.5, 2.5, -0.5, -1.5
    _, codes = quantize(x).fields()
    assert codes[0, :6].tolist() == [127, 0, 2, 2, 0, -2]


@pytest.mark.parametrize("size", [0.0, -0.0, 1e-45, 1e-38, 1e-30])
def test_tiny_groups_are_zero(size: float) -> None:
    x = np.full((1, 32), size, np.float32)
    words, codes = quantize(x).fields()
    assert not codes.any() and not words[[N, D, S], :1].any()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 15, 16, 31])
def test_not_finite_shows_in_its_group_only(bad: float, column: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 96)).astype(np.float32)
    x[1, 32 + column] = bad
    words, codes = quantize(x).fields()
    scales = words[D].view(np.float32)
    assert not np.isfinite(scales[1, 1])
    expected, clean = reference.quantize_activations(x)
    mask = np.ones((2, 3), bool)
    mask[1, 1] = False
    assert np.array_equal(scales[:2][mask], clean[mask])
    assert np.array_equal(codes[:2].reshape(2, 3, 32)[mask], expected.reshape(2, 3, 32)[mask])
