"""GLM 4 of 2025, GLM-Z1, GLM-OCR, text: "glm4". Source: Zhipu AI, "GLM-4-0414", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks, gate and up in one matrix.

    The last layers of a file may be those that predict further tokens: they are not used.
    """
    rotation = nn.rope_of(g, config, "neox" if blocks.has_rope_sections(config) else "norm")
    x = nn.embeddings(g, config)
    for i in range(nn.n_layers_of(config)):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        h = nn.norm(g, h, config, blk + "attn_post_norm", blk + "post_attention_norm")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = blocks.fused_mlp(g, h, config, i)
        h = nn.norm(g, h, config, blk + "ffn_post_norm", blk + "post_ffw_norm")
        x = g.add(x, h, name=blk + "l_out")
    nn.logits(g, x, config)
