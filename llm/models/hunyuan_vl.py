"""The language model of Hunyuan-VL: "hunyuan_vl". Source: Tencent, "HunyuanOCR", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: heads are normalized after rope, whose base grows with "alpha".

    Rope in sections is common rope for text.
    """
    theta, dim = config.rope_theta, config.head_dim
    alpha = config.metadata.get("rope.scaling.alpha", float, 0.0)
    if alpha > 0:
        theta *= alpha ** (dim / (dim - 2))
    turn = rotation("neox", config.rotary_dim, theta, config.rope_scaling)
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, turn, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
