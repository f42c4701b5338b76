"""Time mixing of RWKV-7: states that are corrected, not only added to.

Every function adds nodes for layer i under the prefix "blk.{i}.".
Source: Peng et al., "RWKV-7 Goose", 2025.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import decay_gate, l2_norm
from jitllm.llm.graph.words.ssm import column_scale, squeezed
from jitllm.llm.graph.words.wkv import head_bonus, lerp, previous, wkv
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rwkv as rwkv

LOG_DECAY = -0.606531  # -1 / sqrt(e): the least logarithm of a decay
KEY_EPS = 1e-24  # added to the squared length of a key


class TimeMix:
    """Time mixing of all layers: values of the first are mixed into those of the others.

    Parameters
    ----------
    g : GraphBuilder
    config : ModelConfig
    """

    def __init__(self, g: GraphBuilder, config: ModelConfig) -> None:
        self.g, self.config, self.heads = g, config, rwkv.n_heads(config)
        self.first_values: Value | None = None

    def __call__(self, x: Value, i: int) -> Value:
        """States of keys and values, read by receptances, normed and gated: [T, n]."""
        g, blk, n, heads = self.g, f"blk.{i}.time_mix_", x.width, self.heads
        has_gate = g.has(blk + "g1.weight")
        names = "rwkvag" if has_gate else "rwkva"
        factors = squeezed(g, blk + "lerp_fused.weight", len(names), n)
        before = previous(g, x, name=blk + "previous")
        xr, xw, xk, xv, xa, *xg = rwkv.mixes(g, x, before, names, factors, None, blk)
        r = nn.linear(g, xr, blk + "receptance", n, bias=False)
        k = nn.linear(g, xk, blk + "key", n, bias=False)
        v = self._values(xv, i)
        w = self._low_rank(xw, blk + "w", "tanh")
        decay = decay_gate(
            g, w, np.ones(1, np.float32), blk + "w0.weight", bound=LOG_DECAY, name=blk + "decay"
        )
        rate = self._sigmoid(xa, blk + "a")
        y, k = self._state(r, k, v, decay, rate, i)
        if g.has(blk + "ln.weight"):
            y = rwkv.state_norm(g, y, heads, i)
        bonus = g.values(blk + "r_k.weight", (n,))
        y = head_bonus(g, y, v, r, k, bonus, n_heads=heads, name=blk + "bonus")
        if has_gate:
            y = g.mul(y, self._low_rank(xg[0], blk + "g", "sigmoid"), name=blk + "gated")
        return nn.linear(g, y, blk + "output", n, bias=False)

    def _state(
        self, r: Value, k: Value, v: Value, decay: Value, rate: Value, i: int
    ) -> tuple[Value, Value]:
        """What the states give, and the keys that were written."""
        g, blk, n = self.g, f"blk.{i}.time_mix_", k.width
        erase = column_scale(g, k, g.values(blk + "k_k.weight", (n,)), name=blk + "k_k")
        erase = l2_norm(g, erase, group=n // self.heads, eps=KEY_EPS, name=blk + "erase")
        scaled = g.mul(k, rate, name=blk + "k_scaled")
        k = lerp(g, k, scaled, g.values(blk + "k_a.weight", (n,))[None], name=blk + "k_a")
        y = wkv(
            g, r, k, v, decay, n_heads=self.heads, form="delta", erase=erase, rate=rate,
            name=blk + "wkv",
        )  # fmt: skip
        return y, k

    def _values(self, x: Value, i: int) -> Value:
        g, blk = self.g, f"blk.{i}.time_mix_"
        v = nn.linear(g, x, blk + "value", x.width, bias=False)
        if self.first_values is None:
            self.first_values = v
            return v
        share = self._sigmoid(x, blk + "v")
        return lerp(g, v, self.first_values, shifts=share, name=blk + "value_mixed")

    def _low_rank(self, x: Value, name: str, act: str = "", bias: str = "") -> Value:
        """x times the matrices `name`1 and `name`2, with an activation between them."""
        h = self.g.matmul(x, f"{name}1.weight", name=f"{name}1")
        if act:
            h = self.g.activation(h, act=act, name=f"{name}1_{act}")
        return self.g.matmul(h, f"{name}2.weight", width=x.width, bias=bias, name=f"{name}2")

    def _sigmoid(self, x: Value, name: str) -> Value:
        h = self._low_rank(x, name, bias=f"{name}0.weight")
        return self.g.activation(h, act="sigmoid", name=name)
