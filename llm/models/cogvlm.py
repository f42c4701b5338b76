"""The language model of CogVLM: "cogvlm". Source: Wang et al., "CogVLM", 2023."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _stack as stack

THETA = 10000.0


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes for text; the second set of matrices, for images, is not used."""
    turned = rotation("neox", config.head_dim, THETA)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.fused_qkv(g, x, config, i)
        q, k = attn.rope(g, q, k, turned, config, i)
        return attn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, attention, network)
