"""CUDA's matrix products in the simulator: against their twins, and the sums of the CPU."""

import numpy as np
import pytest
from blocks import edge_blocks, random_blocks
from gpu_products import Extras, few, groups_of, many, many_half, quantize, to_half
from launch import Matrix, bits, pack
from launch import matmul as cpu_matmul
from launch import quantize as cpu_quantize

from jitllm.kernels import formats, packed, reference

QUANTIZED = [name for name in formats.names() if formats.get(name).planes]
SLOW = pytest.mark.slow  # other variants of kernels, each of which takes a second to compile
N_LO, N_HI = packed.FIELD_N_LO, packed.FIELD_N_HI


def _every(*some: str) -> list[object]:
    """Return all quantized formats, those not among `some` marked as slow."""
    return [n if n in some else pytest.param(n, marks=SLOW) for n in QUANTIZED]


def _matrix(name: str, n: int, k: int, count: int = 1) -> tuple[Matrix, np.ndarray]:
    """Return random matrices, packed and as in a file."""
    rng = np.random.default_rng([n, k])
    data = random_blocks(name, count * n * k // formats.get(name).block_size, rng).reshape(-1)
    return pack(name, data, n, k, n_matrices=count), data


def _inputs(n_rows: int, k: int) -> np.ndarray:
    return np.random.default_rng([n_rows, k]).standard_normal((n_rows, k), np.float32)


def _close(
    got: np.ndarray, x: np.ndarray, name: str, data: np.ndarray, n: int, exact: bool
) -> None:
    k = x.shape[1]
    expected = reference.matmul(x, name, data, (n, k), precision="exact" if exact else "fast")
    size = np.abs(x) @ np.abs(formats.dequantize(name, data, (n, k))).T
    assert np.all(np.abs(got - expected) <= 2e-6 * size + 1e-30)  # a few roundings of sums of sizes


@pytest.mark.parametrize(("n_rows", "k", "step"), [(1, 32, 0), (5, 288, 0), (3, 320, 1)])
def test_quantize_has_the_numbers_of_the_cpu(n_rows: int, k: int, step: int) -> None:
    x = _inputs(n_rows, k) * np.float32(10) ** np.arange(-20, 20, 40 / k)[:k].astype(np.float32)
    x[0, :32], x[-1, -32:] = 0, 1e-31
    wide = np.full((n_rows, k + step), np.nan, np.float32)  # rows that vectors do not fit
    wide[:, :k] = x
    codes, scales, sums = groups_of(quantize(wide, k), n_rows)
    words, cpu_codes = cpu_quantize(x).fields()
    assert np.array_equal(codes, cpu_codes[:n_rows])
    assert np.array_equal(bits(scales), words[packed.FIELD_D, :n_rows].view(np.uint32))
    for field, half in ((N_LO, 0), (N_HI, 1)):
        assert np.array_equal(-128 * sums[..., half].astype(np.int32), words[field, :n_rows])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantize_does_not_hide_what_is_not_finite(bad: float) -> None:
    x = _inputs(2, 96)
    x[0, 40] = bad
    _, scales, _ = groups_of(quantize(x), 2)
    assert np.isfinite(scales).tolist() == [[True, False, True], [True, True, True]]


@pytest.mark.parametrize("name", _every("Q4_K", "NVFP4"))
def test_few_rows(name: str) -> None:
    block = max(formats.get(name).block_size, 32)
    for n, k, n_rows in ((33, 3 * block, 3), (16, block, 2), (1, 9 * block, 1)):
        matrix, data = _matrix(name, n, k)
        x = _inputs(n_rows, k)
        _close(few(matrix, x, tile=2), x, name, data, n, False)


@pytest.mark.parametrize("name", _every("Q4_K", "Q6_K"))
def test_many_rows(name: str) -> None:
    block = max(formats.get(name).block_size, 32)
    for n, k, n_rows in ((65, 3 * block, 19), (16, block, 1)):
        matrix, data = _matrix(name, n, k)
        x = _inputs(n_rows, k)
        _close(many(matrix, x, tokens=16, split=2), x, name, data, n, False)


@pytest.mark.parametrize(
    ("tile", "split"), [(4, 1), pytest.param(1, 8, marks=SLOW), pytest.param(8, 4, marks=SLOW)]
)
def test_tiles_of_few_rows(tile: int, split: int) -> None:
    matrix, data = _matrix("Q4_K", 150, 2560)
    x = _inputs(9, 2560)
    _close(few(matrix, x, tile=tile, split=split), x, "Q4_K", data, 150, False)


@pytest.mark.parametrize(
    ("tokens", "split"), [(64, 1), pytest.param(32, 4, marks=SLOW), pytest.param(8, 4, marks=SLOW)]
)
def test_tiles_of_many_rows(tokens: int, split: int) -> None:
    matrix, data = _matrix("Q4_K", 150, 768)
    x = _inputs(70, 768)
    _close(many(matrix, x, tokens=tokens, split=split), x, "Q4_K", data, 150, False)


@pytest.mark.parametrize(
    "name", ["Q8_0", *(pytest.param(name, marks=SLOW) for name in ("Q5_1", "IQ4_NL", "MXFP4"))]
)
def test_sums_of_a_group_are_those_of_the_cpu(name: str) -> None:
    """With one group of columns nothing is left to be added in another order.

    Tiles multiply by the two scales one after the other, and so round otherwise.
    """
    matrix, data = _matrix(name, 40, 32)
    x = _inputs(19, 32)
    expected = cpu_matmul(matrix, x)
    assert np.array_equal(bits(few(matrix, x, tile=2)), bits(expected))
    size = np.abs(x) @ np.abs(formats.dequantize(name, data, (40, 32))).T
    error = np.abs(many(matrix, x, tokens=16, split=2) - expected)
    assert np.all(error <= 2.0**-22 * size)


@pytest.mark.parametrize("name", _every("Q4_K"))
def test_largest_sums(name: str) -> None:
    """All codes at their limits, times activations at theirs."""
    blocks, k = edge_blocks(name), formats.get(name).block_size
    x = np.ones((3, max(k, 32)), np.float32)
    x[1] = -1
    n = len(blocks)
    expected = reference.matmul(x, name, blocks.reshape(-1), (n, k))
    matrix = pack(name, blocks, n, k)
    for got in (few(matrix, x, tile=2), many(matrix, x, tokens=16, split=2)):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("product", "exact"),
    [
        (few, False), pytest.param(few, True, marks=SLOW),
        pytest.param(many, False, marks=SLOW), pytest.param(many, True, marks=SLOW),
    ],
)  # fmt: skip
def test_what_is_added_and_multiplied(product: object, exact: bool) -> None:
    matrix, _ = _matrix("Q4_K", 50, 512)
    x, rng = _inputs(3, 512), np.random.default_rng(1)
    bias, weights = rng.standard_normal(50, np.float32), rng.standard_normal(3, np.float32)
    residual, scale = rng.standard_normal((3, 55), np.float32), np.array([3], np.float32)
    extras = Extras(bias=bias, scales=scale, weights=weights, residual=residual)
    assert callable(product)
    plain = product(matrix, x, exact=exact)
    got = product(matrix, x, exact=exact, extras=extras)
    assert np.array_equal(
        bits(got), bits(residual[:, :50] + (plain * scale * weights[:, None] + bias))
    )


@pytest.mark.parametrize(
    ("product", "exact", "options"),
    [
        (few, False, {}), (many, False, {"tokens": 16}),
        pytest.param(few, True, {}, marks=SLOW), pytest.param(many, True, {}, marks=SLOW),
    ],
)  # fmt: skip
def test_experts(product: object, exact: bool, options: dict[str, int]) -> None:
    """Rows of several experts, each with the matrix of its own; two rows of y for one of x."""
    n, k, experts = 33, 256, 5
    matrix, data = _matrix("Q4_K", n, k, experts)
    rng = np.random.default_rng(3)
    ids = rng.choice([0, 1, 3, 4], 38, p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint32)
    bias, scales = rng.standard_normal((experts, n), np.float32), np.arange(5, dtype=np.float32)
    x = _inputs(19, k)
    assert callable(product)
    extras = Extras(bias=bias, scales=scales, ids=ids, fan=2)
    got = product(matrix, x, exact=exact, extras=extras, **options)
    for e in range(experts):
        chosen = ids == e
        raw = (got[chosen] - bias[e]) / max(scales[e], 1)
        if e:
            rows = np.repeat(x, 2, axis=0)[chosen]
            expected = reference.matmul(
                rows, "Q4_K", data.reshape(experts, -1)[e], (n, k),
                precision="exact" if exact else "fast",
            )  # fmt: skip
            np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-3)
        else:
            assert np.array_equal(got[chosen], np.broadcast_to(bias[0], got[chosen].shape))


@pytest.mark.parametrize(
    ("product", "options"),
    [
        (few, {"tile": 2, "exact": True}), (many, {"tokens": 16, "split": 2}),
        (few, {"tile": 2}), pytest.param(many, {"exact": True}, marks=SLOW),
    ],
)  # fmt: skip
def test_heads(product: object, options: dict[str, int]) -> None:
    """Each head has its own columns of x, and its own matrix."""
    n, k, heads = 20, 256, 3
    matrix, data = _matrix("Q4_K", n, k, heads)
    x = _inputs(3, heads * k)
    assert callable(product)
    got = product(matrix, x, extras=Extras(heads=heads), **options)
    exact = bool(options.get("exact"))
    for h in range(heads):
        own = np.ascontiguousarray(x[:, h * k : (h + 1) * k])
        _close(got[:, h * n : (h + 1) * n], own, "Q4_K", data.reshape(heads, -1)[h], n, exact)


@pytest.mark.parametrize(
    "name", ["F16", *(pytest.param(x, marks=SLOW) for x in ("F32", "BF16")), *_every("Q4_K")]
)
def test_float_activations(name: str) -> None:
    fmt = formats.get(name)
    k = 3 * fmt.block_size if fmt.planes else 150
    for n, n_rows in ((33, 3), (16, 1)):
        matrix, data = _matrix(name, n, k)
        x = _inputs(n_rows, k)
        _close(few(matrix, x, tile=2, exact=True), x, name, data, n, True)
        _close(many(matrix, x, exact=True), x, name, data, n, True)


@pytest.mark.parametrize(
    "name", [*_every("Q4_K"), "BF16", *(pytest.param(x, marks=SLOW) for x in ("F16", "F32"))]
)
def test_half_activations(name: str) -> None:
    """Rows of any size keep 11 bits, weights and scales too; what is not finite spoils its row."""
    fmt = formats.get(name)
    n, k = 49, 3 * max(fmt.block_size, 32) if fmt.planes else 150
    matrix, data = _matrix(name, n, k)
    x = _inputs(19, k) * np.float32(10) ** np.arange(-30, 27, 3)[:, None].astype(np.float32)
    x[5, 7], x[6, 8] = np.nan, np.inf
    got = many_half(matrix, x)
    assert not np.isfinite(got[5:7]).any()
    x[5:7] = got[5:7] = 0
    expected = reference.matmul(x, name, data, (n, k), precision="exact")
    error = np.square((got - expected).astype(np.float64)).sum(1)
    assert np.all(error <= 3e-6 * np.square(expected.astype(np.float64)).sum(1))


@pytest.mark.parametrize(
    ("tokens", "split"), [(128, 1), pytest.param(64, 1, marks=SLOW), pytest.param(8, 4, marks=SLOW)]
)
def test_tiles_of_halves(tokens: int, split: int) -> None:
    matrix, data = _matrix("F16", 150, 200)
    x = _inputs(135, 200)
    got = many_half(matrix, x, tokens=tokens, split=split)
    expected = reference.matmul(x, "F16", data, (150, 200), precision="exact")
    assert np.square(got - expected).sum() <= 1e-6 * np.square(expected).sum()


def test_rows_of_halves() -> None:
    x = np.arange(80, dtype=np.float32)[None] * np.float32(2.0**100)
    places = {0: [8 * t + i for t in range(4) for i in (0, 2, 1, 3, 4, 6, 5, 7)]}
    places[1] = [t + 4 * i for t in range(4) for i in range(8)]
    for order, columns in places.items():
        h = to_half(x, order)
        numbers, factor = h[:192].view(np.float16).reshape(3, 32), h[192:].view(np.float32)
        assert factor.tolist() == [2.0**93]  # 79 is 1.2 * 2^6, which becomes 1.2 * 2^13
        wide = np.append(x[0], np.zeros(16, np.float32)).reshape(3, 32)
        assert np.array_equal(numbers * factor, wide[:, columns])


def test_no_rows() -> None:
    matrix, _ = _matrix("Q4_K", 17, 256)
    assert few(matrix, np.zeros((0, 256), np.float32), tile=2).shape == (0, 17)
