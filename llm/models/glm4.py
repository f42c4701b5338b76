"""GLM 4 of 2025, GLM-Z1, GLM-OCR, text: "glm4". Source: Zhipu AI, "GLM-4-0414", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms around both blocks, gate and up in one matrix.

    The last layers of a file may be those that predict further tokens: they are not used.
    """
    rotation = ropes.rope_of(g, config, "neox" if ropes.has_sections(config) else "norm")

    def attention(x: Value, i: int) -> Value:
        return attn.block(g, x, config, i, rotation)

    def network(x: Value, i: int) -> Value:
        return mlp.fused_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(stack.n_layers_of(config)):
        x = stack.between_norms(g, x, config, i, attention, network)
    lm_head.logits(g, x, config)
