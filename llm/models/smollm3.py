"""SmolLM 3: "smollm3". Source: Hugging Face, "SmolLM3: smol, multilingual, long-context", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

NO_ROPE_EVERY = 4  # Yang et al., "Rope to Nope and Back Again", 2025


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose every fourth layer has no positions."""
    rotation = ropes.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        turned = rotation if (i + 1) % NO_ROPE_EVERY else None
        return attn.block(g, x, config, i, turned)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
