"""Llama 1 to 3, Mistral, Mixtral and all models made alike: "llama".

Sources: Touvron et al., "LLaMA", 2023; Jiang et al., "Mixtral of Experts", 2024.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes of a Llama model, dense or with experts."""
    if config.rope_scaling.type == "longrope":
        rotation = nn.long_rope_of(g, config, "norm")
    else:
        rotation = nn.rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i, bias=True)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        if config.num_experts:
            h = nn.moe(g, h, config, i)
        else:
            h = nn.gated_mlp(g, h, config, i, bias=True, scale=True)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
