"""Apertus: "apertus". Source: Apertus team, "Apertus: Democratizing Open and Compliant LLMs", 2025.

Its activation is `jitllm.llm.graph.words.xielu`, whose numbers every layer has of its own.
"""

import math

from jitllm.backends.ir import Value
from jitllm.llm.config import Metadata, ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.xielu import xielu
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: normalized heads, and a network without a gate."""
    rotation = ropes.any_rope_of(g, config, "neox")

    def norm(x: Value, name: str) -> Value:
        return nn.rms_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        return attn.attend(g, q, k, v, config, i, bias=True)

    def network(x: Value, i: int) -> Value:
        blk = f"blk.{i}."
        n_ff = config.intermediate_size[i]
        h = g.matmul(x, blk + "ffn_up.weight", name=blk + "ffn_up", width=n_ff)
        h = _activated(g, h, config, i)
        return g.matmul(h, blk + "ffn_down.weight", name=blk + "ffn_out", width=config.hidden_size)

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.logits(g, x, config)


def _activated(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """The activation; the file holds its two alphas as they were before a softplus."""

    keys = Metadata(config.metadata.values, "xielu")  # not below the architecture's name

    def number(key: str) -> float:
        return keys.per_layer(key, float, config.num_hidden_layers)[i]

    beta = number("beta")
    return xielu(
        g, x, alpha_p=_softplus(number("alpha_p")), alpha_n=beta + _softplus(number("alpha_n")),
        beta=beta, eps=number("eps"), name=f"blk.{i}.ffn_act",
    )  # fmt: skip


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
