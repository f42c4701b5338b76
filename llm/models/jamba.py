"""Jamba, few layers of attention among many of Mamba: "jamba". Source: Lieber et al., 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._mamba import mamba
from jitllm.llm.models._moe import routed


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention without rope, and experts in the layers that have a router."""
    routing = Routing(config.num_experts_per_tok, norm=False)

    def mixer(x: Value, i: int) -> Value:
        if not config.num_key_value_heads[i]:
            return mamba(g, x, config, i)
        q, k, v = attn.qkv(g, x, config, i)
        return attn.attend(g, q, k, v, config, i)

    def network(x: Value, i: int) -> Value:
        if g.has(f"blk.{i}.ffn_gate_inp.weight"):
            return routed(g, x, config, i, routing)
        return mlp.gated_mlp(g, x, config, i)

    stack.decoder(g, config, mixer, network)
