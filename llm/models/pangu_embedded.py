"""openPangu Embedded: "pangu-embedded". Source: Huawei, "Pangu Embedded", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with biases in the attention; no factors change its rope."""
    turn = rotation("neox", config.rotary_dim, config.rope_theta, config.rope_scaling)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, turn, config, i)
        h = nn.attend(g, q, k, v, config, i, bias=True)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
