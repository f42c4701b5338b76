"""The NumPy twins against independent formulas, written element by element where they can be."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from blocks import random_blocks

from jitllm.kernels import formats, reference

Floats = npt.NDArray[np.float32]
QUANTIZED = tuple(name for name in formats.names() if formats.get(name).planes)
HEADS: dict[str, Any] = {"n_heads": 4, "n_kv_heads": 2}


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def weights(name: str, *shape: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A random tensor of `shape` as bytes."""
    blocks = math.prod(shape) // formats.get(name).block_size
    return random_blocks(name, blocks, np.random.default_rng(seed)).reshape(-1)


def test_rms_norm_by_hand() -> None:
    x = np.array([[3, 4, 0, 0], [0, 0, 0, 0]], np.float32)
    w = np.array([1, 2, 3, 4], np.float32)
    root = math.sqrt(25 / 4 + 0.5)
    expected = np.array([[3 / root, 8 / root, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(reference.rms_norm(x, w, 0.5), expected, rtol=1e-6)


def test_rms_norm_of_groups_is_that_of_each_head() -> None:
    x, w = normal(3, 24), normal(8, seed=1)
    heads = [reference.rms_norm(x[:, i : i + 8], w, 1e-6) for i in (0, 8, 16)]
    got = reference.rms_norm(x, w, 1e-6, group=8)
    np.testing.assert_allclose(got, np.concatenate(heads, axis=1), rtol=1e-6)


def test_rms_norm_survives_large_values() -> None:
    x = np.full((1, 4), 1e30, np.float32)
    np.testing.assert_allclose(reference.rms_norm(x, None, 1e-6), 1.0, rtol=1e-6)


def test_layer_norm() -> None:
    x, w, b = normal(2, 7), normal(7, seed=1), normal(7, seed=2)
    got = reference.layer_norm(x, w, b, 1e-5)
    for row, y in zip(x.astype(float), got, strict=True):
        mean = sum(row) / 7
        root = math.sqrt(sum((v - mean) ** 2 for v in row) / 7 + 1e-5)
        np.testing.assert_allclose(y, (row - mean) / root * w + b, rtol=1e-5, atol=1e-6)
    plain = reference.layer_norm(x, None, None, 0.0)
    np.testing.assert_allclose([plain.mean(1), plain.std(1)], [[0, 0], [1, 1]], atol=1e-6)


ACTIVATIONS: dict[str, Any] = {
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    "gelu_erf": lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)),
    "relu": lambda v: v if v > 0 else 0.0,
}


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activation_and_glu(act: str) -> None:
    x, up = np.linspace(-5, 5, 60, dtype=np.float32).reshape(3, 20), normal(3, 20)
    expected = [[ACTIVATIONS[act](float(v)) for v in row] for row in x]
    np.testing.assert_allclose(reference.activation(x, act), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(reference.glu(x, up, act), expected * up, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activation_of_extremes(act: str) -> None:
    x = np.array([[-3e38, -1e4, 0, 1e4, 3e38]], np.float32)
    expected = np.where(x > 0, x, np.float32(0))
    np.testing.assert_array_equal(reference.activation(x, act), expected)


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="'silu'.*got 'swish'"):
        reference.activation(normal(1, 2), "swish")


def test_elementwise() -> None:
    a, b = normal(3, 5), normal(3, 5, seed=1)
    np.testing.assert_array_equal(reference.add(a, b), a + b)
    np.testing.assert_array_equal(reference.mul(a, b), a * b)
    np.testing.assert_array_equal(reference.scale(a, 0.1), a * np.float32(0.1))
    capped = [[30 * math.tanh(v / 30) for v in row] for row in (a * 50).tolist()]
    np.testing.assert_allclose(reference.soft_cap(a * 50, 30.0), capped, rtol=1e-6)
    for y in (reference.scale(a, 0.1), reference.soft_cap(a, 30.0)):
        assert y.dtype == np.float32


def test_select_rows() -> None:
    x = normal(4, 3)
    np.testing.assert_array_equal(reference.select_rows(x, np.array([3, 0, 3])), x[[3, 0, 3]])
    assert reference.select_rows(x, np.array([], np.int32)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"row numbers must be in 0\.\.3"):
        reference.select_rows(x, np.array([-1]))


@pytest.mark.parametrize("kind", ["norm", "neox"])
def test_rope_is_complex_multiplication(kind: str) -> None:
    x, positions = normal(5, 3 * 8), np.array([0, 1, 7, 500, 501])
    frequencies = np.array([1, 0.3, 0.01], np.float32)
    options: dict[str, Any] = {"n_heads": 3, "head_dim": 8, "n_rot": 6, "frequencies": frequencies}
    got = reference.rope(x, positions, **options, magnitude=1.5, kind=kind).reshape(5, 3, 8)
    pairs = [(0, 1), (2, 3), (4, 5)] if kind == "norm" else [(0, 3), (1, 4), (2, 5)]
    for t, h in np.ndindex(5, 3):
        head = x.reshape(5, 3, 8)[t, h]
        for i, (a, b) in enumerate(pairs):
            angle = float(np.float32(positions[t]) * frequencies[i])
            turned = complex(head[a], head[b]) * 1.5 * complex(math.cos(angle), math.sin(angle))
            assert complex(got[t, h, a], got[t, h, b]) == pytest.approx(turned, rel=1e-6)
        np.testing.assert_array_equal(got[t, h, 6:], head[6:])


def test_rope_unknown_kind() -> None:
    with pytest.raises(ValueError, match="'neox', got 'yarn'"):
        rope(normal(1, 2), kind="yarn")


def rope(x: Floats, kind: str) -> Floats:
    """One head of two columns at frequency 1, at position 0."""
    return reference.rope(
        x,
        np.zeros(len(x), np.int32),
        n_heads=1,
        head_dim=2,
        n_rot=2,
        frequencies=np.ones(1, np.float32),
        kind=kind,
    )


def test_no_rows() -> None:
    x, none = np.zeros((0, 256), np.float32), np.zeros(0, np.int32)
    data = weights("Q4_K", 3, 256)
    assert reference.rms_norm(x, None, 1e-6, group=64).shape == (0, 256)
    assert reference.layer_norm(x, None, None, 1e-6).shape == (0, 256)
    assert reference.glu(x, x, "gelu_erf").shape == (0, 256)
    assert rope(x[:, :2], kind="norm").shape == (0, 2)
    assert reference.quantize_activations(x)[1].shape == (0, 8)
    assert reference.matmul(x, "Q4_K", data, (3, 256)).shape == (0, 3)
    assert reference.embed(none, "Q4_K", data, (3, 256)).shape == (0, 256)
    out = reference.attention(x, x[:, :128], x, none, none, **HEADS, scale=1.0)
    assert out.shape == (0, 512)
    ids, _ = reference.top_k_experts(x, 2, gating="softmax", norm=True)
    assert ids.shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_kv_write_places_every_cell(dtype: Any) -> None:
    heads, dk, dv, position = 2, 3, 5, 60
    k, v = normal(10, heads * dk), normal(10, heads * dv, seed=1)
    pages = np.full((4, heads * (dk + dv) * 64), np.nan, dtype)
    reference.kv_write(k, v, pages, np.array([2, 0]), position, n_kv_heads=heads)
    for i, g in np.ndindex(10, heads):
        cell, start = (position + i) % 64, g * (dk + dv) * 64
        page = pages[2 if position + i < 64 else 0]
        key = [page[start + d * 64 + cell] for d in range(dk)]
        value = [page[start + dk * 64 + cell * dv + d] for d in range(dv)]
        np.testing.assert_array_equal(key, k[i, g * dk : (g + 1) * dk].astype(dtype))
        np.testing.assert_array_equal(value, v[i, g * dv : (g + 1) * dv].astype(dtype))
    assert np.isnan(pages).sum() == pages.size - 10 * heads * (dk + dv)


def test_kv_write_wraps_around_a_short_table() -> None:
    k = normal(1, 2)
    pages = np.zeros((3, 4 * 64), np.float32)
    reference.kv_write(k, k, pages, np.array([1, 2]), 64 * 5 + 3, n_kv_heads=1)
    np.testing.assert_array_equal(pages[2, [3, 67]], k[0])


def naive_attention(
    q: Floats, k: Floats, v: Floats, qp: Any, kp: Any, scale: float, **options: Any
) -> npt.NDArray[np.float64]:
    """One query, one head, one key at a time, in Python floats; 4 heads read 2 kv heads."""
    window, causal = options.get("window", 0), options.get("causal", True)
    cap, sinks = options.get("soft_cap", 0.0), options.get("sinks")
    chunked, slopes = options.get("chunked", False), options.get("slopes", np.zeros(4))
    table = options.get("table", np.zeros((4, 3)))
    reach = table.shape[1] // 2
    queries, keys = q.reshape(len(q), 4, -1).astype(float), k.reshape(len(k), 2, -1).astype(float)
    values = v.reshape(len(v), 2, -1).astype(float)
    out = np.zeros((len(q), 4, values.shape[2]))
    for t, h in np.ndindex(len(q), 4):
        total = math.exp(sinks[h]) if sinks is not None else 0.0
        for s in range(len(k)):
            if causal and kp[s] > qp[t]:
                continue
            if window and chunked and kp[s] // window != qp[t] // window:
                continue
            if window and not chunked and kp[s] <= qp[t] - (window if causal else window // 2 + 1):
                continue
            if window and not causal and kp[s] > qp[t] + window // 2:
                continue
            score = sum(a * b for a, b in zip(queries[t, h], keys[s, h // 2], strict=True)) * scale
            score = cap * math.tanh(score / cap) if cap else score
            score += table[h, min(max(kp[s] - qp[t], -reach), reach) + reach]
            e = math.exp(score - slopes[h] * abs(qp[t] - kp[s]))
            total += e
            out[t, h] += e * values[s, h // 2]
        out[t, h] /= total or 1.0
    return out.reshape(len(q), -1)


OPTIONS = [
    {},
    {"window": 3},
    {"causal": False},
    {"window": 4, "causal": False},
    {"window": 3, "causal": False},
    {"window": 3, "chunked": True},
    {"slopes": np.array([0.5, 0.25, 2, 0], np.float32)},
    {"slopes": np.array([0.5, 0.25, 2, 0], np.float32), "causal": False},
    {"table": normal(4, 5, seed=3)},
    {"table": normal(4, 5, seed=3), "causal": False},
    {"soft_cap": 0.7},
    {"sinks": np.array([0.5, -1, 2, 0], np.float32)},
    {"window": 2, "soft_cap": 2.0, "sinks": np.array([3, -3, 0, 1], np.float32)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
def test_attention_is_a_dense_softmax(options: dict[str, Any]) -> None:
    q, k, v = normal(5, 4 * 6), normal(9, 2 * 6, seed=1), normal(9, 2 * 3, seed=2)
    qp, kp = np.arange(4, 9), np.arange(9)
    got = reference.attention(q, k, v, qp, kp, **HEADS, scale=0.4, **options)
    expected = naive_attention(q, k, v, qp, kp, 0.4, **options)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32


def test_attention_pattern_hides_and_sums_to_one() -> None:
    q, k = normal(3, 4 * 2), normal(6, 2 * 2, seed=1)
    pattern = reference.attention_pattern(
        q, k, np.array([3, 4, 5]), np.arange(6), **HEADS, scale=1.0, window=2
    )
    seen = pattern > 0
    expected = [[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(seen, np.broadcast_to(expected, (4, 3, 6)))
    np.testing.assert_allclose(pattern.sum(-1), 1.0, rtol=1e-6)


def test_attention_without_visible_keys_is_zero() -> None:
    q, k = normal(2, 4 * 2), normal(3, 2 * 2, seed=1)
    positions = np.array([0, 5]), np.array([1, 2, 3])
    got = reference.attention(q, k, k, *positions, **HEADS, scale=1.0)
    assert not got[0].any() and got[1].any()
    empty = np.zeros((0, 4), np.float32)
    none = reference.attention(q, empty, empty, positions[0], np.zeros(0), **HEADS, scale=1.0)
    assert none.shape == (2, 8) and not none.any()


def test_attention_with_huge_scores() -> None:
    q = np.full((1, 4 * 2), 1e4, np.float32)
    k = np.array([[1e4] * 4, [-1e4] * 4], np.float32)
    got = reference.attention(q, k, k, np.array([1]), np.arange(2), **HEADS, scale=1.0)
    np.testing.assert_array_equal(got, np.full((1, 8), 1e4, np.float32))


def test_quantize_activations_by_hand() -> None:
    x = np.zeros((1, 96), np.float32)
    x[0, :5] = [127, -127, 0.5, 1.5, -2.5]  # d is 1: halves go to even
    x[0, 32:34] = [-2, 1]
    codes, d = reference.quantize_activations(x)
    np.testing.assert_array_equal(d, np.array([[1, np.float32(2) / np.float32(127), 0]]))
    assert codes[0, :5].tolist() == [127, -127, 0, 2, -2]
    assert codes[0, 32:34].tolist() == [-127, 64]
    assert not codes[0, 64:].any()


def test_quantize_activations_pads_and_stays_close() -> None:
    x = normal(7, 70)
    codes, d = reference.quantize_activations(x)
    assert codes.shape == (7, 96) and codes.dtype == np.int8
    assert d.shape == (7, 3) and d.dtype == np.float32
    back = (codes.reshape(7, 3, 32) * d[:, :, None]).reshape(7, 96)
    assert np.abs(back[:, :70] - x).max() <= d.max() * 0.501
    assert not codes[:, 70:].any()


def test_quantize_activations_that_are_no_ordinary_numbers() -> None:
    x = np.zeros((1, 160), np.float32)
    x[0, ::32] = [1e-30, np.nan, np.inf, 3e38, 1.01e-30]
    codes, d = reference.quantize_activations(x)
    assert not codes[0, :96].any() and codes[0, 96] == 127 and codes[0, 128] == 127
    assert d[0, 0] == 0 and np.isnan(d[0, 1]) and np.isinf(d[0, 2]) and np.isfinite(d[0, 3])


@pytest.mark.parametrize("name", QUANTIZED)
def test_linear_parts_reproduce_the_weights(name: str) -> None:
    data = weights(name, 6, 256)
    codes, scales, offsets = reference.linear_parts(name, data)
    fmt = formats.get(name)
    signed = codes.astype(np.float32) - np.float32(fmt.center)
    if fmt.table:
        signed = np.array(fmt.table, np.float32)[codes]
    got = scales[:, None] * signed + offsets[:, None]
    np.testing.assert_array_equal(got.reshape(6, 256), formats.dequantize(name, data, (6, 256)))


@pytest.mark.parametrize("name", formats.names())
def test_exact_matmul(name: str) -> None:
    x, data = normal(3, 512), weights(name, 5, 512)
    w = formats.dequantize(name, data, (5, 512))
    expected = [[math.fsum(float(a) * float(b) for a, b in zip(r, c, strict=True)) for c in w]
                for r in x]  # fmt: skip
    got = reference.matmul(x, name, data, (5, 512), precision="exact")
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize("name", formats.names())
def test_fast_matmul_is_exact_on_rounded_activations(name: str) -> None:
    x, data = normal(3, 512), weights(name, 5, 512)
    if formats.get(name).planes:
        codes, d = reference.quantize_activations(x)
        x = (codes.reshape(3, -1, 32) * d[:, :, None]).reshape(3, 512)
    w = formats.dequantize(name, data, (5, 512))
    got = reference.matmul(normal(3, 512), name, data, (5, 512), precision="fast")
    size = np.abs(x).astype(float) @ np.abs(w).T.astype(float)
    assert (np.abs(got - x.astype(float) @ w.T.astype(float)) <= 1e-6 * size).all()


def test_matmul_of_not_finite_activations_is_not_finite() -> None:
    x, data = normal(4, 256), weights("Q4_K", 2, 256)
    x[1, 3], x[2, 200] = np.nan, np.inf
    got = reference.matmul(x, "Q4_K", data, (2, 256))
    np.testing.assert_array_equal(
        np.isfinite(got), [[True] * 2, [False] * 2, [False] * 2, [True] * 2]
    )


def test_matmul_unknown_precision() -> None:
    with pytest.raises(ValueError, match="'fast' or 'exact', got 'half'"):
        reference.matmul(normal(1, 1), "F32", weights("F32", 1, 1), (1, 1), precision="half")


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q6_K"])
def test_embed(name: str) -> None:
    data = weights(name, 9, 256)
    tokens = np.array([8, 0, 0, 3])
    table = formats.dequantize(name, data, (9, 256))
    np.testing.assert_array_equal(reference.embed(tokens, name, data, (9, 256)), table[tokens])
    with pytest.raises(ValueError, match=r"token numbers must be in 0\.\.8"):
        reference.embed(np.array([9]), name, data, (9, 256))


LOGITS = np.log(np.array([[1, 4, 2, 3]], np.float32))  # softmax: 0.1 0.4 0.2 0.3


@pytest.mark.parametrize(
    ("options", "ids", "expected"),
    [
        ({"gating": "softmax", "norm": False}, [1, 3], [0.4, 0.3]),
        ({"gating": "softmax", "norm": True}, [1, 3], [4 / 7, 3 / 7]),
        ({"gating": "softmax", "norm": True, "scale": 2.5}, [1, 3], [10 / 7, 7.5 / 7]),
        ({"gating": "softmax", "norm": True, "norm_min": 2.0}, [1, 3], [0.2, 0.15]),
        ({"gating": "softmax", "norm": False, "bias": [0.35, 0, 0, 0]}, [0, 1], [0.1, 0.4]),
        ({"gating": "sigmoid", "norm": False}, [1, 3], [0.8, 0.75]),
        ({"gating": "sigmoid", "norm": True, "bias": [0, 0, 9, 0]}, [2, 1], [5 / 11, 6 / 11]),
        ({"gating": "softmax_topk", "norm": False}, [1, 3], [4 / 7, 3 / 7]),
        ({"gating": "softmax_topk", "norm": False, "bias": [9, 0, 0, 0]}, [0, 1], [0.2, 0.8]),
    ],
    ids=str,
)
def test_top_k_experts(options: dict[str, Any], ids: list[int], expected: list[float]) -> None:
    if "bias" in options:
        options = {**options, "bias": np.array(options["bias"], np.float32)}
    got, chosen = reference.top_k_experts(LOGITS, 2, **options)
    assert got.tolist() == [ids] and got.dtype == np.int32
    np.testing.assert_allclose(chosen, [expected], rtol=1e-6)


def test_top_k_experts_ties_and_tiny_sums() -> None:
    logits = np.tile(np.array([-200, -201, -200], np.float32), (2, 30))
    ids, chosen = reference.top_k_experts(logits, 70, gating="sigmoid", norm=True)
    order = [i for i in range(90) if i % 3 != 1] + list(range(1, 31, 3))
    assert ids.tolist() == [order] * 2
    assert np.isfinite(chosen).all() and chosen.max() < 1e-6
    with pytest.raises(ValueError, match="'softmax_topk'.*got 'top'"):
        reference.top_k_experts(LOGITS, 1, gating="top", norm=False)


@pytest.mark.parametrize("precision", ["fast", "exact"])
def test_expert_matmul_is_matmul_of_each_choice(precision: str) -> None:
    data, ids = weights("Q4_K", 4, 3, 256), np.array([[0, 3], [3, 1]])
    experts = data.reshape(4, -1)
    for x in (normal(2, 256), normal(2, 2, 256)):
        got = reference.expert_matmul(x, ids, "Q4_K", data, (4, 3, 256), precision=precision)
        for t, j in np.ndindex(2, 2):
            row = (x[t] if x.ndim == 2 else x[t, j])[None]
            want = reference.matmul(row, "Q4_K", experts[ids[t, j]], (3, 256), precision=precision)
            np.testing.assert_allclose(got[t, j], want[0], rtol=1e-6)


def test_expert_matmul_unknown_expert() -> None:
    data = weights("F32", 2, 1, 1)
    with pytest.raises(ValueError, match=r"expert numbers must be in 0\.\.1"):
        reference.expert_matmul(normal(1, 1), np.array([[2]]), "F32", data, (2, 1, 1))
