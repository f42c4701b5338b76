"""Llama-Nemotron and DeciLM: "deci". Source: Bercovich et al., "Llama-Nemotron", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama that a search has thinned out, so that layers lack parts."""
    rotation = ropes.any_rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        if config.num_attention_heads[i]:
            h = _attention(g, x, config, rotation, i)
            x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        if config.intermediate_size[i]:
            h = nn.rms_norm(g, x, config, f"blk.{i}.ffn_norm")
            h = mlp.gated_mlp(g, h, config, i, bias=True)
            x = g.add(x, h, name=f"blk.{i}.l_out")
    lm_head.logits(g, x, config)


def _attention(g: GraphBuilder, x: Value, config: ModelConfig, rotation: Rotation, i: int) -> Value:
    """Attention, or where there are no key heads one matrix in its place."""
    blk = f"blk.{i}."
    h = nn.rms_norm(g, x, config, blk + "attn_norm")
    if not config.num_key_value_heads[i]:
        return g.matmul(
            h, blk + "attn_output.weight", name=blk + "attn_out", width=config.hidden_size
        )
    q, k, v = attn.qkv(g, h, config, i)
    q, k = attn.rope(g, q, k, rotation, config, i)
    return attn.attend(g, q, k, v, config, i, bias=True)
