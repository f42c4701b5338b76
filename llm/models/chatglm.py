"""ChatGLM 2 and 3, GLM 4 of 2024: "chatglm". Source: GLM Team, "ChatGLM", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with gate and up in one matrix, half of each head turned."""
    rotation = nn.rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = blocks.fused_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
