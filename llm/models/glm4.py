"""GLM 4 of 2025, GLM-Z1, GLM-OCR, text: "glm4". Source: Zhipu AI, "GLM-4-0414", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks, gate and up in one matrix.

    The last layers of a file may be those that predict further tokens: they are not used.
    """
    rotation = nn.rope_of(g, config, "neox" if blocks.has_rope_sections(config) else "norm")

    def attention(x: Value, i: int) -> Value:
        return blocks.attend(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return blocks.fused_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(nn.n_layers_of(config)):
        x = dense.between_norms(g, x, config, i, attention, network)
    nn.logits(g, x, config)
