"""SmallThinker: "smallthinker". Source: Song et al., "SmallThinker", 2025."""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

PERIOD = 4  # a layer without window and rope, then three with both
GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_topk"}


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: the router reads a layer's input, before attention; experts have ReLU gates.

    Without windows in the metadata, every layer has rope.
    """
    whole, local = ropes.rope_of(g, config, "neox"), ropes.window_rotation(config, "neox")
    has_windows = config.sliding_window > 0
    x = nn.embeddings(g, config)
    for i, window in enumerate(_windows(config)):
        blk = f"blk.{i}."
        logits = g.matmul(
            x, blk + "ffn_gate_inp.weight", width=config.num_experts, name=blk + "ffn_moe_logits"
        )
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, h, config, i)
        if i % PERIOD or not has_windows:
            q, k = attn.rope(g, q, k, local if window else whole, config, i)
        h = attn.attend(g, q, k, v, config, i, window=window)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = _experts(g, nn.rms_norm(g, x, config, blk + "ffn_norm"), logits, config, i)
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)


def _windows(config: ModelConfig) -> tuple[int, ...]:
    """Window of each layer: by a flag for each, or all but the first of every period."""
    key, n = "attention.sliding_window_pattern", config.num_hidden_layers
    if not config.sliding_window:
        return (0,) * n
    if isinstance(config.metadata.values.get(f"{config.architecture}.{key}"), np.ndarray):
        return attn.windows_of(config, PERIOD)
    period = config.metadata.get(key, int, PERIOD)
    return tuple(0 if period and i % period == 0 else config.sliding_window for i in range(n))


def _experts(g: GraphBuilder, x: Value, logits: Value, config: ModelConfig, i: int) -> Value:
    blk, number = f"blk.{i}.", config.metadata.get("expert_gating_func", int)
    if number not in GATINGS:
        raise ModelFormatError(
            f"key '{config.architecture}.expert_gating_func': expected one of {sorted(GATINGS)}, "
            f"got {number}"
        )
    return experts(
        g, x, logits, Routing(config.num_experts_per_tok, GATINGS[number]), act="relu",
        gate=blk + "ffn_gate_exps.weight", up=blk + "ffn_up_exps.weight",
        down=blk + "ffn_down_exps.weight", name=blk + "ffn_out",
    )  # fmt: skip
