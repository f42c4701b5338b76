"""Phi 3.5 with experts: "phimoe". Source: Abdin et al., "Phi-3 Technical Report", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Phi 3 with norms that have biases, and experts in every layer."""
    rotation = ropes.long_rope_of(g, config, "neox")
    routing = moe.softmax_routing(config, norm=True)

    def norm(x: Value, name: str) -> Value:
        x = g.rms_norm(x, f"{name}.weight", eps=config.rms_norm_eps, name=f"{name}.scaled")
        return g.add_bias(x, f"{name}.bias", name=name)

    x = stack.in_turn(
        g,
        nn.embeddings(g, config),
        config,
        norm,
        lambda x, i: attn.block(g, x, config, i, rotation, bias=True),
        lambda x, i: moe.mixture(g, x, config, i, routing),
    )
    lm_head.normed_logits(g, x, config, norm, bias="output.bias")
