"""Phi 1.5 and 2: "phi2". Source: Li et al., "Textbooks Are All You Need II", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: both blocks side by side behind one norm, biases, those of logits too."""
    rotation = dense.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = dense.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = dense.turned_qkv(g, h, config, rotation, i)
        attention = nn.attend(g, *heads, config, i, bias=True)
        network = blocks.plain_mlp(g, h, config, i, act="gelu")
        x = dense.side_by_side(g, x, attention, network, i)
    dense.logits(
        g, x, config, lambda x, name: dense.layer_norm(g, x, config, name), bias="output.bias"
    )
