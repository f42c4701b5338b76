"""Talkie: "talkie". Source: the architecture as llama.cpp runs it, 2026."""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms without weights, and a share of the embeddings added in each layer."""
    rotation = ropes.rope_of(g, config, "neox")
    x = embedded = nn.bare_norm(g, nn.embeddings(g, config), config, "inp_norm")
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.bare_norm(g, x, config, blk + "attn_norm")
        q, k, v = attn.qkv(g, h, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        q, k = _head_norms(g, q, k, config, i)
        h = attn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.bare_norm(g, x, config, blk + "ffn_norm")
        h = _mlp(g, h, config, i)
        x = g.add(x, h, name=blk + "ffn_sum")
        share = float(g.values(blk + "layer_output_scale.weight", (1,))[0])
        x = g.add(x, g.scale(embedded, share, name=blk + "inp_share"), name=blk + "l_out")
    x = nn.bare_norm(g, g.select_outputs(x, name="output_rows"), config, "output_norm")
    y = lm_head.output(g, x, config, name="output.unscaled")
    g.scale(y, config.metadata.get("logit_scale", float), name="output")


def _head_norms(
    g: GraphBuilder, q: Value, k: Value, config: ModelConfig, i: int
) -> tuple[Value, Value]:
    """Norms of heads, those of q with one weight for each head."""
    name, dim, n_heads = f"blk.{i}.attn_q_norm", config.head_dim, config.num_attention_heads[i]
    gains = g.values(f"{name}.weight", (n_heads, 1)).reshape(-1)
    q = nn.bare_norm(g, q, config, f"{name}.bare", dim)
    q = column_scale(g, q, np.repeat(gains, dim), name=name)
    return q, nn.bare_norm(g, k, config, f"blk.{i}.attn_k_norm", dim)


def _mlp(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """down(silu(gate(x)) * up(x)); only the last matrix may have a scale."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    gate = g.matmul(x, blk + "ffn_gate.weight", name=blk + "ffn_gate", width=n_ff)
    up = g.matmul(x, blk + "ffn_up.weight", name=blk + "ffn_up", width=n_ff)
    h = g.glu(gate, up, act="silu", name=blk + "ffn_act")
    return nn.linear(
        g, h, blk + "ffn_down", config.hidden_size, bias=False, as_name=blk + "ffn_out"
    )
