"""Ministral 3 and the text side of Mistral 3: "mistral3"."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama, stretched by YaRN, whose queries grow with the position."""
    if config.rope_scaling.type == "longrope":
        rotation = nn.long_rope_of(g, config, "norm")
    else:
        rotation = nn.rope_of(g, config, "norm")
    slope = config.metadata.get("attention.temperature_scale", float, 0.0)
    length = config.rope_scaling.original_max_position_embeddings
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        if slope:
            q = g.scale_by_position(q, slope=slope, length=length, name=f"blk.{i}.attn_q_scaled")
        h = nn.attend(g, q, k, v, config, i, bias=True)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        if config.num_experts:
            h = nn.moe(g, h, config, i)
        else:
            h = nn.gated_mlp(g, h, config, i, bias=True, scale=True)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
