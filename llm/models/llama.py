"""Llama 1 to 3, Mistral, Mixtral and all models made alike: "llama".

Sources: Touvron et al., "LLaMA", 2023; Jiang et al., "Mixtral of Experts", 2024.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes of a Llama model, dense or with experts."""
    rotation = ropes.any_rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation, bias=True)

    def feed_forward(x: Value, i: int) -> Value:
        return network(g, x, config, i)

    stack.decoder(g, config, attention, feed_forward)


def network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A gated network or experts: [rows, n]."""
    if config.num_experts:
        return moe.normalized_mixture(g, x, config, i)
    return mlp.gated_mlp(g, x, config, i, bias=True, scale=True)
