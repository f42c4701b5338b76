"""PLaMo: "plamo". Source: Preferred Networks, "PLaMo-13B", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention and feed-forward network side by side behind one norm."""
    rotation = ropes.rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        normed = nn.rms_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = attn.qkv(g, normed, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        h = attn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        h = mlp.gated_mlp(g, normed, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    lm_head.logits(g, x, config)
