"""The language model of Qwen 2 and 2.5 VL: "qwen2vl". Source: Wang et al., "Qwen2-VL", 2024."""

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
    """Add the nodes: Qwen 2 with rope in sections, which for text is common rope.

    The epsilon of its norms may be 0.
    """
    rotation = ropes.rope_of(g, config, "neox")
    eps = config.metadata.get("attention.layer_norm_rms_epsilon", float)

    def norm(x: Value, name: str) -> Value:
        return g.rms_norm(x, f"{name}.weight", eps=eps, name=name)

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
