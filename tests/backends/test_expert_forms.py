"""Mixtures of experts in all their forms: the CPU backend against the reference."""

from typing import Any

import numpy as np
import pytest

from jitllm import backends
from jitllm.backends.base import Batch, Segment, Weight
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.bounded_glu import bounded_glu
from jitllm.llm.graph.words.experts import Routing, experts

E, F, WIDTH, V, K = 8, 96, 64, 40, 3


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "embedding": (V, WIDTH), "router": (E, WIDTH), "gate": (E, F, WIDTH), "up": (E, F, WIDTH),
        "fused": (E, 2 * F, WIDTH), "down": (E, WIDTH, F), "bias": (E,), "output": (V, WIDTH),
    }  # fmt: skip
    made = {
        name: rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))
        for name, shape in shapes.items()
    }
    made["embedding"] *= np.float32(8)
    made |= {f"{name}4": made[name][4:] for name in ("gate", "up", "down")}
    numbers = rng.permuted(np.tile(np.arange(E), (V, 1)), axis=1)[:, :K]
    return made | {"numbers": numbers.astype(np.float32)}


TENSORS = _tensors()


def _per_expert(*widths: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(1)
    a, b, c = (1 + rng.standard_normal((E, w) if w else E, np.float32) for w in widths)
    return a, b, c


def _graph(routing: Routing, *, given: bool = False, **options: Any) -> Any:
    g = GraphBuilder(TENSORS, TENSORS.__getitem__, 64)
    x = g.embed("embedding", width=WIDTH, name="x")
    logits = g.matmul(x, "router", name="logits")
    chosen = g.embed("numbers", width=K, name="chosen") if given else None
    names: dict[str, Any] = {"gate": "gate", "up": "up", "down": "down"} | options
    y = experts(g, x, logits, routing, name="y", chosen=chosen, **names)
    g.matmul(g.select_outputs(y, name="rows"), "output", name="output")
    return g.build()


def _logits(graph: Any, device: str, n: int) -> np.ndarray:
    backend = backends.open_backend(device, n_threads=2, precision="exact")
    for name in {name for node in graph.nodes for name in node.weights if name}:
        values = TENSORS[name]
        data = values.reshape(-1).view(np.uint8)
        backend.add_weight(Weight(name, "F32", values.shape, data, lambda: None))
    backend.new_states((), 1)
    program = backend.compile(graph, [], max_tokens=16, taps=frozenset())
    rows = np.arange(n, dtype=np.int32)
    tokens = (rows * 7 % V).astype(np.int32)
    out = program.run(Batch(tokens, rows, rows, [Segment(0, n, 0, [])]), None).copy()
    program.close()
    backend.close()
    return out


FORMS: dict[str, tuple[Routing, Any]] = {
    "plain": (Routing(K), {}),
    "one": (Routing(1, gating="sigmoid_topk", norm=False, weigh_input=True), {}),
    "fused": (Routing(K), {"up": "fused", "gate": "", "fused": True}),
    "without gate": (Routing(K), {"gate": "", "act": "relu"}),
    "biases": (Routing(K, gating="softmax_topk", norm=False), {"biases": _per_expert(F, F, WIDTH)}),
    "scales": (Routing(K, norm=False), {"scales": _per_expert(0, 0, 0)}),
    "one scale": (Routing(K, factor=2.5), {"scales": (None, None, _per_expert(0, 0, 0)[0])}),
    "fused with biases": (
        Routing(K),
        {"up": "fused", "gate": "", "fused": True, "act": "swiglu_oai", "bounds": (7.0, 1.702),
         "biases": (None, *_per_expert(F, 2 * F, WIDTH)[1:])},
    ),
    "bounded": (Routing(K, gating="sqrt_softplus"), {"act": "swiglu_limit", "bounds": (0.5, 0.0)}),
    "groups": (Routing(K, "sigmoid", bias="bias", n_group=4, topk_group=2), {}),
    "weighed input": (Routing(K, "sigmoid", norm=False, weigh_input=True), {}),
    "shared by groups": (
        Routing(K, experts_per_group=2),
        {"gate": "gate4", "up": "up4", "down": "down4"},
    ),
    "given": (Routing(K, gating="sqrt_softplus"), {"given": True}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 13])
def test_forms_are_those_of_the_reference(form: str, n: int) -> None:
    routing, options = FORMS[form]
    graph: Any = _graph(routing, **options)
    got, expected = _logits(graph, "cpu", n), _logits(graph, "reference", n)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)
    if form != "plain":
        plain = _logits(_graph(Routing(K)), "reference", n)
        assert np.abs(expected - plain).max() > 0.1


def test_fused_products_are_those_of_two() -> None:
    fused: dict[str, Any] = {"up": "fused", "gate": "", "fused": True}
    apart = {"up": TENSORS["fused"][:, F:], "gate": TENSORS["fused"][:, :F]}
    expected = _logits(_graph(Routing(K), **fused), "cpu", 5)
    kept = {name: TENSORS[name] for name in apart}
    TENSORS.update(apart)
    try:
        got = _logits(_graph(Routing(K)), "cpu", 5)
    finally:
        TENSORS.update(kept)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_bounded_unit_is_that_of_the_experts(device: str) -> None:
    """One expert with weight 1 is a dense network."""
    first = {f"{name}0": TENSORS[name][0] for name in ("gate", "up", "down")}
    one = {f"{name}1": TENSORS[name][:1] for name in ("router", "gate", "up", "down")}
    TENSORS.update(first | one)
    g = GraphBuilder(TENSORS, TENSORS.__getitem__, 64)
    x = g.embed("embedding", width=WIDTH, name="x")
    gate, up = (g.matmul(x, f"{name}0", name=name) for name in ("gate", "up"))
    h = bounded_glu(g, gate, up, act="swiglu_clamp", bounds=(0.5, 0.0), name="h")
    y = g.matmul(h, "down0", name="y")
    g.matmul(g.select_outputs(y, name="rows"), "output", name="output")
    dense = _logits(g.build(), device, 6)

    g = GraphBuilder(TENSORS, TENSORS.__getitem__, 64)
    x = g.embed("embedding", width=WIDTH, name="x")
    logits = g.matmul(x, "router1", name="logits")
    stacks: dict[str, Any] = {"gate": "gate1", "up": "up1", "down": "down1"}
    bounds: dict[str, Any] = {"act": "swiglu_clamp", "bounds": (0.5, 0.0)}
    y = experts(g, x, logits, Routing(1), name="y", **stacks, **bounds)
    g.matmul(g.select_outputs(y, name="rows"), "output", name="output")
    np.testing.assert_allclose(_logits(g.build(), device, 6), dense, rtol=1e-5, atol=1e-5)
