"""Arcee's Trinity: "afmoe". Source: Arcee AI, "Trinity", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # three layers with a window, then one without
NO_ROPE_EVERY = 4


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks and on heads, gated attention, experts."""
    windows = attn.windows_of(config, WINDOW_PERIOD)
    whole, local = ropes.plain_rope(config, "neox"), ropes.window_rotation(config, "neox")

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        if (i + 1) % NO_ROPE_EVERY:
            q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
        z = attn.attention(g, q, k, v, config, i, window=windows[i])
        return attn.gated_output(g, z, x, config, i, width=z.width)

    def network(x: Value, i: int) -> Value:
        if moe.is_dense(config, i):
            return mlp.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, moe.routing_of(g, config, i, "sigmoid"))

    x = gemma.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.between_norms(g, x, config, i, attention, network)
    lm_head.logits(g, x, config)
