"""Arcee's Trinity: "afmoe". Source: Arcee AI, "Trinity", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe

WINDOW_PERIOD = 4  # three layers with a window, then one without
NO_ROPE_EVERY = 4


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks and on heads, gated attention, experts."""
    windows = nn.windows_of(config, WINDOW_PERIOD)
    whole, local = dense.plain_rope(config, "neox"), blocks.window_rotation(config, "neox")

    def attention(x: Value, i: int) -> Value:
        q, k, v = nn.qkv(g, x, config, i)
        q, k = nn.head_norms(g, q, k, config, i)
        if (i + 1) % NO_ROPE_EVERY:
            q, k = nn.turn(g, q, k, local if windows[i] else whole, config, i)
        z = nn.attention(g, q, k, v, config, i, window=windows[i])
        return blocks.gated_attention_output(g, z, x, config, i, width=z.width)

    def network(x: Value, i: int) -> Value:
        if moe.is_dense(config, i):
            return nn.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, moe.routing_of(g, config, i, "sigmoid"))

    x = gemma.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = dense.between_norms(g, x, config, i, attention, network)
    nn.logits(g, x, config)
