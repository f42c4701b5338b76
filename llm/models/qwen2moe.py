"""Qwen 1.5 and 2 with experts: "qwen2moe". Source: Yang et al., "Qwen2 Technical Report", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.row_dot import row_dot
from jitllm.llm.models import _deepseek as deepseek
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _moe as moe


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 2 with experts, beside one that every token has a gate for."""
    rotation, routing = nn.rope_of(g, config, "neox"), moe.softmax_routing(config, norm=False)

    def network(x: Value, i: int) -> Value:
        blk = f"blk.{i}."
        y = moe.routed(g, x, config, i, routing, name=blk + "ffn_moe_out")
        name = blk + "ffn_gate_inp_shexp"
        gate = row_dot(g, x, f"{name}.weight", name=name)
        shared = gated(g, moe.shared(g, x, config, i), gate, name=blk + "ffn_shexp_gated")
        return g.add(y, shared, name=blk + "ffn_out")

    deepseek.layers(g, config, lambda x, i: moe.attend(g, x, config, i, rotation), network)
