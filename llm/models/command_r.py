"""Command R and R+: "command-r". Source: Cohere, "Command R", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: both blocks side by side, norms of heads in R+, a factor of the logits."""
    rotation = ropes.plain_rope(config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = attn.qkv(g, h, config, i)
        q, k = attn.head_layer_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        attention = attn.attend(g, q, k, v, config, i, bias=True)
        network = mlp.gated_mlp(g, h, config, i)
        x = stack.side_by_side(g, x, attention, network, i)
    factor = config.metadata.get("logit_scale", float, 0.0) or 1.0

    def norm(x: Value, name: str) -> Value:
        return nn.layer_norm(g, x, config, name)

    lm_head.normed_logits(g, x, config, norm, factor=factor)
