"""DeepSeek's first mixture of experts: "deepseek". Source: Dai et al., "DeepSeekMoE", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose layers, after the leading ones, have experts."""
    rotation, routing = ropes.rope_of(g, config, "norm"), moe.softmax_routing(config, norm=False)

    def network(x: Value, i: int) -> Value:
        if moe.is_dense(config, i):
            return mlp.gated_mlp(g, x, config, i)
        return moe.mixture(g, x, config, i, routing)

    stack.decoder(g, config, lambda x, i: attn.block(g, x, config, i, rotation), network)
