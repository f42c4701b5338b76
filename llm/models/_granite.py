"""What all Granite models share. Source: IBM, "Granite 3.0 Language Models", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(
    g: GraphBuilder,
    config: ModelConfig,
    windows: tuple[int, ...],
    turned: tuple[bool, ...],
    sinks: str = "",
) -> None:
    """Add the nodes: a Llama with factors on embeddings, scores, both branches and logits.

    Parameters
    ----------
    g : GraphBuilder
    config : ModelConfig
    windows : tuple of int
        Window of each layer, 0 for none.
    turned : tuple of bool
        Whether a layer has rope.
    sinks : str
        Name of the layers' sinks, without "blk.{i}."; "" for none.
    """
    meta = config.metadata
    scale = meta.get("attention.scale", float, 0.0) or None
    branch_scale = meta.get("residual_scale", float, 0.0)
    rotation = ropes.any_rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    x = nn.scaled(g, x, meta.get("embedding_scale", float, 0.0), "inp_scaled")
    for i, window in enumerate(windows):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, h, config, i)
        if turned[i]:
            q, k = attn.rope(g, q, k, rotation, config, i)
        h = attn.attention(
            g, q, k, v, config, i, scale=scale, window=window, sinks=sinks and blk + sinks
        )
        h = attn.output(g, h, config, i, bias=True)
        h = nn.scaled(g, h, branch_scale, blk + "attn_out_scaled")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = network(g, nn.rms_norm(g, x, config, blk + "ffn_norm"), config, i)
        h = nn.scaled(g, h, branch_scale, blk + "ffn_out_scaled")
        x = g.add(x, h, name=blk + "l_out")
    lm_head.scaled_logits(g, x, config, 1 / meta.get("logit_scale", float))


def network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A gated network, or experts, with one more for all tokens if the file has it: [rows, n]."""
    if not config.num_experts:
        return mlp.gated_mlp(g, x, config, i, bias=True)
    blk = f"blk.{i}."
    n_shared = config.metadata.get("expert_shared_feed_forward_length", int, 0)
    routed = moe.routed(
        g, x, config, i, Routing(config.num_experts_per_tok),
        name=blk + ("ffn_moe_out" if n_shared else "ffn_out"),
    )  # fmt: skip
    if not n_shared:
        return routed
    shared = _shared_expert(g, x, config, i, n_shared)
    return g.add(routed, shared, name=blk + "ffn_out")


def _shared_expert(g: GraphBuilder, x: Value, config: ModelConfig, i: int, n_ff: int) -> Value:
    """A gated network whose gate may be the first half of its matrix `up`."""
    blk = f"blk.{i}."
    if g.has(blk + "ffn_gate_shexp.weight"):
        return moe.shared(g, x, i)
    both = g.matmul(x, blk + "ffn_up_shexp.weight", width=2 * n_ff, name=blk + "ffn_gate_up_shexp")
    gate = g.columns(both, 0, n_ff, name=blk + "ffn_gate_shexp")
    up = g.columns(both, n_ff, 2 * n_ff, name=blk + "ffn_up_shexp")
    h = g.glu(gate, up, act="silu", name=blk + "ffn_act_shexp")
    return g.matmul(
        h, blk + "ffn_down_shexp.weight", width=config.hidden_size, name=blk + "ffn_shexp"
    )
