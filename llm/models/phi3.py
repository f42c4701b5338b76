"""Phi 3, 3.5 and 4: "phi3". Source: Abdin et al., "Phi-3 Technical Report", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes.

    A sliding window in the metadata is not used: files do not say which layers have one, and the
    models were shown to work without.
    """
    rotation = nn.long_rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = _fused_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)


def _fused_mlp(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """down(silu(gate(x)) * up(x)), gate and up being the halves of one matrix: [rows, n]."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    both = g.matmul(x, blk + "ffn_up.weight", name=blk + "ffn_gate_up", width=2 * n_ff)
    gate = g.columns(both, 0, n_ff, name=blk + "ffn_gate")
    up = g.columns(both, n_ff, 2 * n_ff, name=blk + "ffn_up")
    h = g.glu(gate, up, act="silu", name=blk + "ffn_act")
    return g.matmul(h, blk + "ffn_down.weight", name=blk + "ffn_out", width=config.hidden_size)
