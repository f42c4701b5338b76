"""The text side of Pocket TTS: "pockettts". Source: Kyutai, "Pocket TTS", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms and a network without gate.

    The model has no output matrix: what counts is "output_norm", which its flow network reads. The
    embedding table stands in for it.
    """
    rotation = nn.rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = blocks.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = blocks.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        h = blocks.plain_mlp(g, h, config, i, act="gelu")
        x = g.add(x, h, name=f"blk.{i}.l_out")
    x = g.select_outputs(x, name="output_rows")
    blocks.output(g, blocks.layer_norm(g, x, config, "output_norm"), config)
