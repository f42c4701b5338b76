"""Mellum 2: "mellum". Source: JetBrains, "Mellum", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # three layers with a window, then one without


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, windows whose rope is not stretched, experts."""
    whole = ropes.plain_rope(config, "neox")
    local = rotation("neox", config.rotary_dim, config.rope_theta)
    windows = attn.windows_of(config, WINDOW_PERIOD)
    routing = moe.softmax_routing(config, norm=True)

    def attention(x: Value, i: int) -> Value:
        turned = local if windows[i] else whole
        return attn.block(g, x, config, i, turned, head_norms=True, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return moe.mixture(g, x, config, i, routing, scale=True)

    stack.decoder(g, config, attention, network)
