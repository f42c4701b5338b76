"""SmolLM 3: "smollm3". Source: Hugging Face, "SmolLM3: smol, multilingual, long-context", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn

NO_ROPE_EVERY = 4  # Yang et al., "Rope to Nope and Back Again", 2025


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose every fourth layer has no positions."""
    rotation = nn.rope_of(g, config, "norm")

    def attention(x: Value, i: int) -> Value:
        turned = rotation if (i + 1) % NO_ROPE_EVERY else None
        return blocks.attend(g, x, config, i, turned)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    nn.decoder(g, config, attention, network)
