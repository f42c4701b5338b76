"""Graphs around one operation with a state, run on any device."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from jitllm import backends
from jitllm.backends.base import Batch, Segment, StatePool, Weight
from jitllm.backends.ir import Graph, Value
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import ssm, wkv
from jitllm.llm.graph.words.delta_net import decay_gate, delta_net, l2_norm
from jitllm.llm.graph.words.heads import head_columns

Floats = NDArray[np.float32]
VOCAB, TOKENS = 50, 24
IDS = np.random.default_rng(3).integers(0, VOCAB, (2, TOKENS)).astype(np.int32)
KINDS = ["conv", "selective", "scan", "plain_scan", "before", "gated", "delta", "net"]


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

    def _net(self, g: GraphBuilder, x: Value) -> Value:
        heads = x.width // 16
        q, k = (
            l2_norm(g, head_columns(g, x, 16 * i, 16 * i + 16, n_heads=1, name=name), group=16,
                    eps=1e-6, name=f"{name}.norm")
            for i, name in enumerate("qk")
        )  # fmt: skip
        gates = g.activation(g.matmul(x, "step", name="step"), act="sigmoid", name="gates")
        decay, beta = (
            head_columns(g, gates, i * heads, (i + 1) * heads, n_heads=1, name=name)
            for i, name in enumerate(("decay", "beta"))
        )
        return delta_net(
            g, q, k, x, decay, beta, n_heads=heads, n_key_heads=1, scale=0.25, name="y"
        )

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
