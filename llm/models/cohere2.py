"""Command R7B and Command A: "cohere2". Source: Cohere, "Command A", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # three layers with a window and rope, then one with neither


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Command R with windows, rope only in layers that have one."""
    rotation = ropes.any_rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i, window in enumerate(attn.windows_of(config, WINDOW_PERIOD)):
        h = nn.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = attn.roped_qkv(g, h, config, rotation if window else None, i)
        attention = attn.attend(g, *heads, config, i, bias=True, window=window)
        network = mlp.gated_mlp(g, h, config, i, scale=True)
        x = stack.side_by_side(g, x, attention, network, i)
    factor = config.metadata.get("logit_scale", float) or 1.0

    def norm(x: Value, name: str) -> Value:
        return nn.layer_norm(g, x, config, name)

    lm_head.normed_logits(g, x, config, norm, factor=factor)
