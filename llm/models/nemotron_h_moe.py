"""Nemotron H with experts: "nemotron_h_moe". Source: NVIDIA, "Nemotron 3", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack
from jitllm.llm.models import nemotron_h


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Nemotron H, whose networks say by their tensors whether they are experts."""
    nemotron_h.build(g, config)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens: attention, then experts."""
    i = nextn.layer_of(g, config, block)

    def norm(x: Value, name: str, tensor: str) -> Value:
        return nn.rms_norm(g, x, config, name, tensor)

    def last_norm(x: Value, name: str, tensor: str) -> Value:
        eps = config.metadata.get("attention.layer_norm_epsilon", float)
        return g.layer_norm(x, f"{tensor}.weight", "", eps=eps, name=name)

    layer = stack.Blocks(
        lambda x, i: attn.block(g, x, config, i, None, bias=True),
        lambda x, i: nemotron_h.network(g, x, config, i),
        "post_attention_norm",
    )
    x = stack.layer(g, nextn.begins(g, config, i, norm), config, layer, i)
    lm_head.output(g, nextn.ends(g, x, i, last_norm), config, block=i)
