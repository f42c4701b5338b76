"""dots.llm1: "dots1". Source: Huo et al., "dots.llm1 Technical Report", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _deepseek as deepseek
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms on heads, experts chosen with a bias, leading dense layers."""
    rotation = nn.rope_of(g, config, "neox")

    def network(x: Value, i: int) -> Value:
        if moe.is_dense(config, i):
            return nn.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, moe.routing_of(g, config, i))

    def attention(x: Value, i: int) -> Value:
        return moe.attend(g, x, config, i, rotation, head_norms=True)

    deepseek.layers(g, config, attention, network)
