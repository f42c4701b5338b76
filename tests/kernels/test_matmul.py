"""Matrix products: every format against its twin, and bits that depend on nothing else."""

import itertools

import numpy as np
import pytest
from blocks import edge_blocks, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import TILE_ROWS, Matrix, bits, matmul, pack

from jitllm.kernels import formats, reference

NAMES = formats.names()
QUANTIZED = [name for name in NAMES if formats.get(name).planes]
MODES = [*((name, False) for name in NAMES), *((name, True) for name in QUANTIZED)]
ROWS = (1, 2, 5, 6, 7, 13, 64)


def _matrix(name: str, n: int, k: int) -> tuple[Matrix, np.ndarray]:
    """Return a random matrix, packed and as it is in a file."""
    rng = np.random.default_rng([n, k])
    data = random_blocks(name, n * k // formats.get(name).block_size, rng).reshape(-1)
    return pack(name, data, n, k), data


def _inputs(n_rows: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, n_rows, k]).standard_normal((n_rows, k), np.float32)


def _check(name: str, n: int, k: int, n_rows: int, exact: bool) -> None:
    matrix, data = _matrix(name, n, k)
    x = _inputs(n_rows, k)
    got = matmul(matrix, x, exact=exact)
    precision = "exact" if exact else "fast"
    expected = reference.matmul(x, name, data, (n, k), precision=precision)
    weights = np.abs(formats.dequantize(name, data, (n, k)))
    bound = 2e-6 * (np.abs(x) @ weights.T)  # a few roundings of the sum of sizes
    assert np.all(np.abs(got - expected) <= bound + 1e-30)


@pytest.mark.parametrize(("name", "exact"), MODES)
def test_equals_twin(name: str, exact: bool) -> None:
    size = max(formats.get(name).block_size, 32)
    shapes = itertools.product((1, 15, 16, 17, 50, 100), (1, 2, 5))
    for i, (n, n_blocks) in enumerate(shapes):
        for n_rows in (ROWS[i % len(ROWS)], ROWS[(i + 3) % len(ROWS)]):
            _check(name, n, n_blocks * size, n_rows, exact)


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(MODES), n=st.integers(1, 120), n_blocks=st.integers(1, 4),
    n_rows=st.integers(1, 40),
)  # fmt: skip
def test_any_shape(mode: tuple[str, bool], n: int, n_blocks: int, n_rows: int) -> None:
    name, exact = mode
    _check(name, n, n_blocks * max(formats.get(name).block_size, 32), n_rows, exact)


@pytest.mark.parametrize(("name", "exact"), MODES)
def test_bits_depend_on_neither_rows_nor_threads(name: str, exact: bool) -> None:
    matrix, _ = _matrix(name, 100, 512)
    x = _inputs(64, 512)
    whole = matmul(matrix, x, exact=exact)
    for first, end in ((0, 1), (63, 64), (0, 2), (3, 8), (1, 64), (10, 10 + TILE_ROWS), (0, 13)):
        part = matmul(matrix, x[first:end], exact=exact)
        assert np.array_equal(bits(part), bits(whole[first:end]))
    for rows in (x, x[:1]):
        two = matmul(matrix, rows, exact=exact, n_threads=2)
        assert np.array_equal(bits(two), bits(whole[: len(rows)]))


@pytest.mark.parametrize("name", ["Q4_K", "Q8_0", "F16", "F32"])
def test_bits_do_not_depend_on_other_rows_of_the_matrix(name: str) -> None:
    """A row of W gives the same bits wherever it stands, for wide products in several spans too."""
    k = 512
    matrix, data = _matrix(name, 300, k)
    x = _inputs(9, k)
    whole = matmul(matrix, x)
    rows = [299, 0, 17, 150, 31]
    chosen = data.reshape(300, -1)[rows]
    part = matmul(pack(name, chosen, len(rows), k), x)
    assert np.array_equal(bits(part), bits(whole[:, rows]))


@pytest.mark.parametrize(("name", "exact"), [("Q4_K", False), ("Q6_K", True), ("BF16", False)])
@pytest.mark.parametrize("n_rows", [1, 2, 9])
def test_bias_and_residual(name: str, exact: bool, n_rows: int) -> None:
    n, k = 50, 512
    matrix, _ = _matrix(name, n, k)
    x, rng = _inputs(n_rows, k), np.random.default_rng(1)
    bias = rng.standard_normal(n, np.float32)
    residual = rng.standard_normal((n_rows, n), np.float32)
    plain = matmul(matrix, x, exact=exact)
    with_bias = matmul(matrix, x, exact=exact, bias=bias)
    assert np.array_equal(bits(with_bias), bits(plain + bias))
    with_residual = matmul(matrix, x, exact=exact, residual=residual)
    assert np.array_equal(bits(with_residual), bits(residual + plain))
    both = matmul(matrix, x, exact=exact, bias=bias, residual=residual)
    assert np.array_equal(bits(both), bits(residual + (plain + bias)))


@pytest.mark.parametrize(("name", "exact"), MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_hidden(name: str, exact: bool, bad: float) -> None:
    """It spoils its own row of the result and no other."""
    matrix, _ = _matrix(name, 33, 512)
    x = _inputs(8, 512)
    clean = matmul(matrix, x, exact=exact)
    x[3, 300] = bad
    for rows in (slice(0, 8), slice(3, 4)):
        y = matmul(matrix, x[rows], exact=exact)
        at = 3 - rows.start
        assert not np.isfinite(y[at]).any()
        kept = [i for i in range(len(y)) if i != at]
        assert np.array_equal(y[kept], clean[rows][kept])


@pytest.mark.parametrize("name", ["Q4_K", "F16"])
def test_no_rows(name: str) -> None:
    matrix, _ = _matrix(name, 17, 256)
    assert matmul(matrix, np.zeros((0, 256), np.float32)).shape == (0, 17)


@pytest.mark.parametrize("name", QUANTIZED)
def test_products_of_integers_are_exact(name: str) -> None:
    """With inputs of -127..127 and scale one, sums are whole: any wrong code would show."""
    k = 512
    matrix, data = _matrix(name, 40, k)
    x = np.random.default_rng(2).integers(-127, 128, (7, k)).astype(np.float32)
    x[:, ::32] = 127  # the largest of each group: its scale is one
    fast, exact = matmul(matrix, x), matmul(matrix, x, exact=True)
    size = np.abs(x) @ np.abs(formats.dequantize(name, data, (40, k))).T
    assert np.all(np.abs(fast - exact) <= 2e-6 * size)


@pytest.mark.parametrize("name", QUANTIZED)
def test_largest_sums(name: str) -> None:
    """All codes at their limits, times activations at theirs: no narrow sum overflows."""
    blocks, k = edge_blocks(name), formats.get(name).block_size
    x = np.ones((3, k), np.float32)
    x[1] = -1
    n = len(blocks)
    for rows in (x, x[:1], x[1:2]):
        expected = reference.matmul(rows, name, blocks.reshape(-1), (n, k))
        got = matmul(pack(name, blocks, n, k), rows)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
