"""Maple: "maple". Source: the architecture as llama.cpp runs it, 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._mlp import Unit

NO_BOUND = 1e-6  # bounds up to this are none


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, rope only beside windows, experts within bounds."""
    n, meta = config.num_hidden_layers, config.metadata
    rotation, windows = ropes.window_rotation(config, "neox"), attn.windows_of(config, 0)
    bounds = meta.per_layer("swiglu_clamp_exp", float, n)
    routing = Routing(config.num_experts_per_tok)

    def attention(x: Value, i: int) -> Value:
        turned = rotation if windows[i] else None
        return attn.block(g, x, config, i, turned, head_norms=True, window=windows[i])

    def network(x: Value, i: int) -> Value:
        if bounds[i] <= NO_BOUND:
            return moe.mixture(g, x, config, i, routing)
        return moe.mixture(g, x, config, i, routing, unit=Unit("swiglu_clamp", (bounds[i], 0.0)))

    stack.decoder(g, config, attention, network)
