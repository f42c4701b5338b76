"""The language model of Qwen 2 and 2.5 VL: "qwen2vl". Source: Wang et al., "Qwen2-VL", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 2 with rope in sections, which for text is common rope.

    The epsilon of its norms may be 0.
    """
    rotation = nn.rope_of(g, config, "neox")
    eps = config.metadata.get("attention.layer_norm_rms_epsilon", float)

    def norm(x: Value, name: str) -> Value:
        return g.rms_norm(x, f"{name}.weight", eps=eps, name=name)

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    x = dense.in_turn(g, nn.embeddings(g, config), config, norm, attention, network)
    dense.logits(g, x, config, norm)
