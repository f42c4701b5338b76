"""The language model of CogVLM: "cogvlm". Source: Wang et al., "CogVLM", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn

THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes for text; the second set of matrices, for images, is not used."""
    turn = rotation("neox", config.head_dim, THETA)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = blocks.fused_qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, turn, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
