"""BitNet b1.58: "bitnet". Source: Ma et al., "The Era of 1-bit LLMs", 2024.

The matrices' weights are -1, 0 or 1 times a scale, which the file holds either beside them or in
them.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a norm more before the last matrix of each block."""
    rotation = ropes.plain_rope(config, "neox")

    def norm(x: Value, name: str) -> Value:
        return nn.rms_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, rotation, config, i)
        z = attn.attention(g, q, k, v, config, i)
        z = norm(z, f"blk.{i}.attn_sub_norm")
        return attn.output(g, z, config, i, bias=True)

    def network(x: Value, i: int) -> Value:
        blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
        gate = nn.linear(g, x, blk + "ffn_gate", n_ff, bias=False)
        up = nn.linear(g, x, blk + "ffn_up", n_ff, bias=False)
        h = norm(g.glu(gate, up, act="silu", name=blk + "ffn_act"), blk + "ffn_sub_norm")
        down = blk + "ffn_down"
        return nn.linear(g, h, down, config.hidden_size, bias=False, as_name=blk + "ffn_out")

    x = stack.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    lm_head.logits(g, x, config)
