"""Jais: "jais". Source: Sengupta et al., "Jais and Jais-chat", 2023."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: ALiBi, gated units with biases, scores divided by the size of a head.

    Factors of the model's embeddings and logits are part of the file's matrices.
    """
    max_alibi_bias = config.metadata.get("attention.max_alibi_bias", float, 0.0)

    def norm(x: Value, name: str) -> Value:
        return nn.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads, scale = attn.qkv(g, x, config, i), 1 / config.head_dim
        return attn.attend(
            g, *heads, config, i, bias=True, scale=scale, max_alibi_bias=max_alibi_bias
        )

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i, bias=True)

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
