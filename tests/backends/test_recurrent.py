"""Operations with states: on the CPU as by their twins, the same bits however rows are cut."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from recurrent_cases import KINDS, TOKENS, Case

from jitllm.kernels.reference import ssm as reference_ssm
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import ssm, wkv


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [144, 150])
def test_the_cpu_equals_the_twins(kind: str, width: int) -> None:
    width = {"plain_scan": 2 * width, "net": width // 6 * 16}.get(kind, width)  # heads of blocks
    case = Case(kind, width)
    want = case.run("reference", [TOKENS])
    states = case.states
    got = case.run("cpu", [TOKENS])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    for mine, twins in zip(case.states, states, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_tokens_alone(kind: str) -> None:
    case = Case(kind)
    whole = case.run("cpu", [TOKENS])
    states = case.states
    for pieces, n_threads in (([1] * TOKENS, 1), ([2, 1, 13, 8], 2)):
        assert np.array_equal(case.run("cpu", pieces, n_threads), whole)
        for mine, before in zip(case.states, states, strict=True):
            assert np.array_equal(mine, before)


RECORDED = {
    "conv": "da7923dcdcc4f67c",
    "selective": "539882380fe1d0bd",
    "scan": "7c0aadb0a6693886",
    "plain_scan": "54c7391bb1c4da5c",
    "before": "1e8e433dff29c20a",
    "gated": "b4d88c75518bde5d",
    "delta": "073c3f76b411fd90",
    "net": "8fa9cad4b8cc51fb",
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_have_the_recorded_bits(kind: str) -> None:
    outputs = Case(kind).run("cpu", [TOKENS])
    assert hashlib.sha256(outputs.tobytes()).hexdigest()[:16] == RECORDED[kind]


def test_the_scan_is_a_masked_matrix_product() -> None:
    """The dual form (Dao and Gu, 2024): y = (L * (C B^T)) X with L[t, s] = a^(t - s) for s <= t."""
    rng = np.random.default_rng(0)
    x, b, c = (rng.standard_normal((9, n), dtype=np.float32) for n in (4, 5, 5))
    a = np.array([-0.3], np.float32)
    y, state = reference_ssm.ssm_scan(
        x,
        b,
        c,
        None,
        a=a,
        d=None,
        step_bias=None,
        n_groups=1,
        state=np.zeros((1, 5, 4), np.float32),
    )
    t = np.arange(9)
    kept = np.tril(np.exp(float(a[0]) * (t[:, None] - t)))
    np.testing.assert_allclose(y, (kept * (c @ b.T)) @ x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state[0], (b * kept[-1][:, None]).T @ x, rtol=1e-5, atol=1e-5)


def test_the_convolution_is_numpys() -> None:
    rng = np.random.default_rng(0)
    x, taps = rng.standard_normal((9, 3), dtype=np.float32), rng.standard_normal((4, 3))
    zeros = np.zeros((3, 3), np.float32)
    y, state = reference_ssm.causal_conv(x, taps.astype(np.float32), None, "", zeros)
    for i in range(3):
        whole = np.convolve(x[:, i], taps[::-1, i].astype(np.float32))[:9]
        np.testing.assert_allclose(y[:, i], whole, rtol=1e-5, atol=1e-5)
    assert np.array_equal(state, x[-3:])


def test_words_check_their_sizes() -> None:
    case = Case("scan")
    tensors = {name: SimpleNamespace(shape=w.shape) for name, w in case.weights.items()}
    g = GraphBuilder(tensors, lambda name: case.weights[name], 256)
    x = g.embed("table", width=144, name="x")
    few = case.weights["d"][:5]
    with pytest.raises(ValueError, match="n_heads = 5 does not divide 144"):
        ssm.ssm_scan(g, x, x, x, n_heads=5, n_groups=1, a=few, name="y")
    with pytest.raises(ValueError, match="act must be"):
        ssm.causal_conv(g, x, "taps", taps=4, act="relu", name="y")
    with pytest.raises(ValueError, match=r"factors for 144 columns"):
        ssm.column_scale(g, x, few, name="y")
    with pytest.raises(ValueError, match="form must be one of"):
        wkv.wkv(g, x, x, x, x, n_heads=6, form="delta", name="y")
    with pytest.raises(ValueError, match="5 heads and 5 key heads for 144"):
        wkv.wkv(g, x, x, x, x, n_heads=5, form="before", name="y")
    with pytest.raises(ValueError, match="x has 144 columns, not 72"):
        wkv.wkv(g, x, x, x, x, n_heads=6, n_key_heads=3, form="gated", name="y")
    with pytest.raises(ValueError, match="0 points between"):
        wkv.lerp(g, x, x, name="y")
    with pytest.raises(ValueError, match=r"with factors \(5,\)"):
        wkv.head_bonus(g, x, x, x, x, few, n_heads=6, name="y")
