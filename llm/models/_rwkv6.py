"""Time mixing of RWKV-6: how much a layer takes from the token before depends on the token.

Every function adds nodes for layer i under the prefix "blk.{i}.".
Source: Peng et al., "Eagle and Finch", 2024.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.delta_net import decay_gate
from jitllm.llm.graph.words.heads import head_matmul
from jitllm.llm.graph.words.ssm import squeezed
from jitllm.llm.graph.words.wkv import head_bonus, lerp, previous, wkv
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rwkv as rwkv

MIXES = "wkvrg"  # of decays, keys, values, receptances, gates


def time_mix(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """States of keys and values, read by receptances, normed and gated: [T, n]."""
    blk, heads = f"blk.{i}.time_mix_", rwkv.n_heads(config)
    w, k, v, r, gate = _projections(g, x, config, i, heads)
    bonus = g.values(blk + "first.weight", (heads, config.hidden_size // heads)).reshape(-1)
    y = wkv(g, r, k, v, w, n_heads=heads, form="before", name=blk + "wkv")
    y = head_bonus(g, y, v, r, k, bonus, n_heads=heads, name=blk + "wkv_bonus")
    y = rwkv.state_norm(g, y, heads, i)
    y = g.glu(gate, y, act="silu", name=blk + "gated")
    return nn.linear(g, y, blk + "output", config.hidden_size, bias=False)


def gated_time_mix(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """The same without norm and bonus: a state takes as much of a key as it loses: [T, n].

    Heads may share keys and values. Source: Recursal, "QRWKV6", 2024.
    """
    blk, heads = f"blk.{i}.time_mix_", rwkv.n_heads(config)
    n_key_heads = config.num_key_value_heads[i] or heads
    if heads % n_key_heads:
        raise ModelFormatError(
            f"key '{config.architecture}.attention.head_count_kv': expected a divisor of {heads}, "
            f"got {n_key_heads}"
        )
    w, k, v, r, gate = _projections(g, x, config, i, n_key_heads)
    y = wkv(
        g, r, k, v, w, n_heads=heads, n_key_heads=n_key_heads, form="gated", name=blk + "wkv"
    )  # fmt: skip
    y = g.scale(y, (config.hidden_size // heads) ** -0.5, name=blk + "wkv_scaled")
    y = g.glu(gate, y, act="sigmoid", name=blk + "gated")
    return nn.linear(g, y, blk + "output", config.hidden_size, bias=False)


def _projections(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, n_key_heads: int
) -> list[Value]:
    """Decays, keys, values, receptances and gates, each of a mix of its own."""
    blk, n = f"blk.{i}.time_mix_", config.hidden_size
    kv = n // rwkv.n_heads(config) * n_key_heads
    xw, *others = _mixes(g, x, config, i)
    w = g.matmul(xw, blk + "decay_w1.weight", name=blk + "decay_w1")
    w = g.activation(w, act="tanh", name=blk + "decay_tanh")
    w = g.matmul(w, blk + "decay_w2.weight", width=n, name=blk + "decay_w2")
    rate = np.array([-1], np.float32)
    w = decay_gate(g, w, rate, blk + "decay.weight", act="exp", name=blk + "decay")
    widths = {"key": kv, "value": kv, "receptance": n, "gate": n}
    return [w] + [
        nn.linear(g, mixed, blk + part, width)
        for mixed, (part, width) in zip(others, widths.items(), strict=True)
    ]


def _mixes(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> list[Value]:
    """Mixes of x with the row before, which a first mix has moved."""
    blk, n = f"blk.{i}.time_mix_", x.width
    before = previous(g, x, name=blk + "previous")
    first = lerp(g, x, before, squeezed(g, blk + "lerp_x.weight", 1, n), name=blk + "xx")
    rank = config.metadata.get("time_mix_extra_dim", int)
    shifts = g.matmul(first, blk + "w1.weight", width=len(MIXES) * rank, name=blk + "w1")
    shifts = g.activation(shifts, act="tanh", name=blk + "w1_tanh")
    shifts = head_matmul(
        g, shifts, blk + "w2.weight", n_heads=len(MIXES), width=n, name=blk + "w2"
    )  # fmt: skip
    return rwkv.mixes(g, x, before, MIXES, _factors(g, blk, n), shifts, blk)


def _factors(g: GraphBuilder, blk: str, n: int) -> Floats:
    """How much of the row before each mix takes: [5, n], of one tensor or of five."""
    if g.has(blk + "lerp_fused.weight"):
        return squeezed(g, blk + "lerp_fused.weight", len(MIXES), n)
    return np.stack([squeezed(g, f"{blk}lerp_{name}.weight", n) for name in MIXES])
