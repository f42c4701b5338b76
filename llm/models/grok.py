"""Grok 1 and 2: "grok". Source: xAI, "Grok-1", 2024."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation, rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models._mlp import Unit

LOGIT_SCALE = 0.5773502691896257
EMBEDDING_SCALE = 78.38367176906169
SCORE_SCALE = 0.08838834764831845
SCORE_CAP = 30.0
BETA_FAST = 8.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks, capped scores, experts, perhaps a network beside."""
    meta, turned = config.metadata, _rotation(config)
    routing = moe.softmax_routing(config, norm=True)
    scale = meta.get("attention.output_scale", float, SCORE_SCALE)
    cap = meta.get("attn_logit_softcapping", float, SCORE_CAP)
    x = nn.embeddings(g, config)
    x = nn.scaled(g, x, meta.get("embedding_scale", float, EMBEDDING_SCALE), "inp_scaled")
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        h = attn.block(g, h, config, i, turned, scale=scale, soft_cap=cap)
        h = nn.rms_norm(g, h, config, blk + "attn_post_norm", blk + "attn_output_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        y = moe.routed(g, h, config, i, routing, unit=Unit("gelu"), name=blk + "ffn_moe_out")
        if g.has(blk + "ffn_up.weight"):
            y = g.add(y, _network(g, h, config, i), name=blk + "ffn_sum")
            y = g.scale(y, 0.5**0.5, name=blk + "ffn_out")
        tensor = blk + "layer_output_norm"
        tensor = tensor if g.has(f"{tensor}.weight") else blk + "post_ffw_norm"
        x = g.add(x, nn.rms_norm(g, y, config, blk + "ffn_post_norm", tensor), name=blk + "l_out")
    factor = meta.get("logit_scale", float, LOGIT_SCALE)
    lm_head.scaled_logits(g, x, config, factor, meta.get("final_logit_softcapping", float, 0.0))


def _rotation(config: ModelConfig) -> Rotation:
    """Rope, whose YaRN has other defaults here and one more factor."""
    meta, scaling = config.metadata, config.rope_scaling
    mix = meta.get("rope.scaling.yarn_ext_factor", float, -1.0)
    if scaling.type == "yarn" and mix >= 0 and mix != 1:
        raise ModelFormatError(
            f"key '{meta.architecture}.rope.scaling.yarn_ext_factor': expected 1, got {mix}"
        )
    factor = meta.get("rope.scaling.yarn_attn_factor", float, 1.0)
    scaling = dataclasses.replace(
        scaling,
        beta_fast=meta.get("rope.scaling.yarn_beta_fast", float, BETA_FAST),
        attention_factor=scaling.attention_factor * (1.0 if scaling.type == "yarn" else factor),
    )
    return rotation("neox", config.rotary_dim, config.rope_theta, scaling)


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """The dense network beside the experts: [T, n]."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    gate = g.matmul(x, blk + "ffn_gate.weight", width=n_ff, name=blk + "ffn_gate")
    up = g.matmul(x, blk + "ffn_up.weight", width=n_ff, name=blk + "ffn_up")
    h = g.glu(gate, up, act="gelu", name=blk + "ffn_act")
    width = config.hidden_size
    return g.matmul(h, blk + "ffn_down.weight", width=width, name=blk + "ffn_dense")
