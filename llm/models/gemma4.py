"""Gemma 4, text: "gemma4". Source: Gemma Team, "Gemma 4", 2026."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models._mlp import Unit

FINAL_CAP = 30.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: smaller heads in windows, shared keys, inputs of layers, experts."""
    meta, windows = config.metadata, attn.windows_of(config, 0)
    key_layers = gemma.key_layers(config, windows, meta.get("attention.shared_kv_layers", int, 0))
    local = _in_windows(config)
    near = gemma.window_rotation(local)
    factors = g.values("rope_freqs.weight", (config.rotary_dim // 2,)) if 0 in windows else None
    far = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling, factors)
    x = gemma.embeddings(g, config)
    width = meta.get("embedding_length_per_layer_input", int)
    inputs = gemma.inputs_of_layers(g, x, config, width) if width else None
    for i, window in enumerate(windows):
        own, turned = (local, near) if window else (config, far)
        h = nn.rms_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = _heads(g, h, own, i) if key_layers[i] == i else gemma.query(g, h, own, i)
        h = gemma.attend(g, heads, own, i, turned, window=window, key_layer=key_layers[i])
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        x = _end_of_layer(g, x, _network(g, x, config, i), inputs, config, i)
    cap = meta.get("final_logit_softcapping", float, FINAL_CAP)
    lm_head.scaled_logits(g, x, config, 1.0, cap)


def _in_windows(config: ModelConfig) -> ModelConfig:
    """The sizes of layers with a window."""
    meta, head_dim = config.metadata, config.head_dim
    return dataclasses.replace(
        config,
        head_dim=meta.get("attention.key_length_swa", int, head_dim),
        v_head_dim=meta.get("attention.value_length_swa", int, head_dim),
    )


def _heads(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> gemma.Heads:
    """Queries, keys and values; a layer without a matrix for values uses its keys."""
    blk = f"blk.{i}."
    if g.has(blk + "attn_qkv.weight") or g.has(blk + "attn_v.weight"):
        return attn.qkv(g, x, config, i)
    width = config.num_key_value_heads[i] * config.head_dim
    q, _, _ = gemma.query(g, x, config, i)
    k = nn.linear(g, x, blk + "attn_k", width)
    return q, k, k


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A gated network, beside it perhaps experts, and the norm behind them: [T, n]."""
    blk = f"blk.{i}."
    h = nn.rms_norm(g, x, config, blk + "ffn_norm")
    h = mlp.gated_mlp(g, h, config, i, act="gelu", scale=True)
    if g.has(blk + "ffn_gate_inp.weight"):
        h = nn.rms_norm(g, h, config, blk + "ffn_post_norm_1", blk + "post_ffw_norm_1")
        h = g.add(h, _experts(g, x, config, i), name=blk + "ffn_both")
    return nn.rms_norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")


def _experts(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """Experts between norms of their own, the router seeing rows of its own: [T, n]."""
    blk, eps = f"blk.{i}.", config.rms_norm_eps
    h = g.rms_norm(x, blk + "ffn_gate_inp.scale", eps=eps, name=blk + "ffn_router_norm")
    h = g.scale(h, config.hidden_size**-0.5, name=blk + "ffn_router_in")
    logits = moe.router(g, h, config, i)
    h = nn.rms_norm(g, x, config, blk + "ffn_norm_2", blk + "pre_ffw_norm_2")
    h = moe.routed(
        g, h, config, i, Routing(config.num_experts_per_tok), unit=Unit("gelu"), scale=True,
        logits=logits, name=blk + "ffn_moe_out",
    )  # fmt: skip
    return nn.rms_norm(g, h, config, blk + "ffn_post_norm_2", blk + "post_ffw_norm_2")


def _end_of_layer(
    g: GraphBuilder, x: Value, h: Value, inputs: Value | None, config: ModelConfig, i: int
) -> Value:
    """x + h, plus what the layer's own input adds, times the layer's factor: [T, n]."""
    blk = f"blk.{i}."
    factor = blk + "layer_output_scale.weight"
    last = blk + ("l_out.unscaled" if g.has(factor) else "l_out")
    x = g.add(x, h, name=last if inputs is None else blk + "ffn_residual")
    if inputs is not None:
        x = g.add(x, gemma.input_of_layer(g, x, inputs, config, i), name=last)
    return g.scale(x, float(g.values(factor, (1,))[0]), name=blk + "l_out") if g.has(factor) else x
