"""Operations with states: on the CPU as by their twins, the same bits however rows are cut."""

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from jitllm import backends
from jitllm.backends.base import Batch, Segment, StatePool, Weight
from jitllm.backends.ir import Graph, Value
from jitllm.kernels import reference_ssm
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import ssm, wkv
from jitllm.llm.graph.words.delta_net import decay_gate, l2_norm
from jitllm.llm.graph.words.heads import head_columns

Floats = NDArray[np.float32]
VOCAB, TOKENS = 50, 24
IDS = np.random.default_rng(3).integers(0, VOCAB, (2, TOKENS)).astype(np.int32)


def _weights(**shapes: tuple[int, ...]) -> dict[str, Floats]:
    rng = np.random.default_rng(5)
    values = {k: rng.standard_normal(shape, dtype=np.float32) for k, shape in shapes.items()}
    return {k: -np.abs(v) if k == "a" else v for k, v in values.items()}


class Case:
    """A graph around one operation, on one device."""

    def __init__(self, kind: str, width: int = 144) -> None:
        self.weights = _weights(
            table=(VOCAB, width), taps=(width, 4), bias=(width,), a=(width, 20), d=(width,),
            b=(40, width), step=(width, width), heads=(6, width), out=(VOCAB, width),
        )  # fmt: skip
        self.weights["b"] *= np.float32(0.1)
        self.weights["step"] *= np.float32(0.1)
        tensors = {name: SimpleNamespace(shape=w.shape) for name, w in self.weights.items()}
        g = GraphBuilder(tensors, lambda name: self.weights[name], 256)
        x = g.embed("table", width=width, name="x")
        y = getattr(self, f"_{kind}")(g, x)
        y = g.rms_norm(y, "", eps=1e-5, name="norm")
        g.matmul(g.select_outputs(y, name="rows"), "out", name="logits")
        self.graph: Graph = g.build()

    def _conv(self, g: GraphBuilder, x: Value) -> Value:
        y = ssm.causal_conv(g, x, "taps", taps=4, bias="bias", act="silu", name="conv")
        return ssm.causal_conv(g, y, "taps", taps=4, name="plain")

    def _selective(self, g: GraphBuilder, x: Value) -> Value:
        b = g.columns(g.matmul(x, "b", name="b"), 0, 20, name="b.half")
        step = g.matmul(x, "step", name="step")
        return ssm.selective_scan(g, x, b, b, step, a="a", d="d", name="y")

    def _scan(self, g: GraphBuilder, x: Value) -> Value:
        b, step = g.matmul(x, "b", name="b"), g.matmul(x, "heads", name="step")
        few = self.weights["d"][:6]
        sizes = {"n_heads": 6, "n_groups": 2}
        return ssm.ssm_scan(g, x, b, b, a=-abs(few), d=few, step=step, step_bias=few, name="y",
                            **sizes)  # fmt: skip

    def _plain_scan(self, g: GraphBuilder, x: Value) -> Value:
        b = g.matmul(x, "b", name="b")
        y = ssm.ssm_scan(g, x, b, b, n_heads=2, n_groups=2, a=-abs(self.weights["d"][:2]), name="y")
        return ssm.column_scale(g, y, self.weights["d"], name="scaled")

    def _before(self, g: GraphBuilder, x: Value) -> Value:
        return self._rwkv(g, x, "before", 6)

    def _gated(self, g: GraphBuilder, x: Value) -> Value:
        return self._rwkv(g, x, "gated", 3)

    def _delta(self, g: GraphBuilder, x: Value) -> Value:
        return self._rwkv(g, x, "delta", 6)

    def _rwkv(self, g: GraphBuilder, x: Value, form: str, n_key_heads: int) -> Value:
        n, shares = x.width, np.abs(np.stack([self.weights["d"], self.weights["bias"]]))
        mixed = wkv.lerp(g, x, wkv.previous(g, x, name="previous"), shares, name="mixed")
        r, k = (
            head_columns(g, mixed, i * n, (i + 1) * n, n_heads=1, name=name)
            for i, name in enumerate("rk")
        )
        k = l2_norm(g, k, group=n // 6, eps=1e-6, name="e")
        w = g.matmul(x, "step", name="step")
        rate = g.activation(w, act="sigmoid", name="rate")
        w = decay_gate(g, w, np.full(1, -1, np.float32), "bias", act="exp", name="w")
        kv = n // 6 * n_key_heads
        some_k, v = (head_columns(g, y, 0, kv, n_heads=1, name=f"{y.name}v") for y in (k, x))
        more = {"erase": k, "rate": rate} if form == "delta" else {}
        y = wkv.wkv(
            g, r, some_k, v, w, n_heads=6, n_key_heads=n_key_heads, form=form, name="y", **more
        )
        return wkv.head_bonus(g, y, x, r, k, self.weights["d"], n_heads=6, name="bonus")

    def run(self, device: str, pieces: Sequence[int], n_threads: int = 1) -> Floats:
        """Logits [2, TOKENS, V] of two sequences side by side, cut into pieces of these sizes."""
        backend = backends.open_backend(device, precision="exact", n_threads=n_threads)
        used = {name for node in self.graph.nodes for name in node.weights if name}
        for name in used:
            w = self.weights[name]
            backend.add_weight(Weight(name, "F32", w.shape, w.view(np.uint8)))
        self.pool: StatePool = backend.new_states(self.graph.states, 5)
        program = backend.compile(self.graph, [], max_tokens=2 * TOKENS, taps=frozenset())
        parts, start, slots = [], 0, [(-1, 0), (-1, 4)]
        for n in pieces:
            ids, rows = IDS[:, start : start + n].reshape(-1), np.arange(2 * n, dtype=np.int32)
            segments = [Segment(i * n, n, start, [], *slots[i]) for i in range(2)]
            batch = Batch(
                ids, np.tile(np.arange(start, start + n, dtype=np.int32), 2), rows, segments
            )
            parts.append(program.run(batch).reshape(2, n, -1).copy())
            slots = [(slots[0][1], 1 - slots[0][1]), (slots[1][1], 7 - slots[1][1])]
            start += n
        self.states = [self.pool.read(slots[0][0], i) for i in range(len(self.pool.sizes))]
        backend.close()
        return np.concatenate(parts, axis=1)


KINDS = ["conv", "selective", "scan", "plain_scan", "before", "gated", "delta"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [144, 150])
def test_the_cpu_equals_the_twins(kind: str, width: int) -> None:
    width = 2 * width if kind == "plain_scan" else width  # heads of more than one block
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
