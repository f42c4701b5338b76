"""Nemotron 3, 4 and Minitron: "nemotron". Source: NVIDIA, "Nemotron-4 15B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms, half of each head turned, squared ReLU without a gate."""
    rotation = nn.rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = blocks.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i, bias=True)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = blocks.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        h = blocks.plain_mlp(g, h, config, i, act="relu", squared=True)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    x = g.select_outputs(x, name="output_rows")
    blocks.output(g, blocks.layer_norm(g, x, config, "output_norm"), config)
