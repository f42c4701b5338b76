"""StableLM 3B, 2 and 12B: "stablelm". Source: Bellagente et al., "Stable LM 2 1.6B", 2024."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: layer norms; in the 12B model heads are normalized, blocks side by side."""
    rotation = ropes.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        normed = nn.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = attn.qkv(g, normed, config, i)
        q, k = attn.head_layer_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        h = attn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        if g.has(f"blk.{i}.ffn_norm.weight"):
            normed = nn.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        h = mlp.gated_mlp(g, normed, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    lm_head.normed_logits(g, x, config, lambda x, name: nn.layer_norm(g, x, config, name))
