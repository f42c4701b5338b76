"""Experts beside one that all tokens use, itself multiplied by a gate: Qwen's mixtures.

Source: Qwen Team, "Qwen1.5-MoE", 2024.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.graph.words.row_dot import project
from jitllm.llm.models import _deepseek as deepseek


def gated_shared(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """The k best experts by softmax, normalized, and sigmoid(w x) times the shared one: [T, n]."""
    blk, meta = f"blk.{i}.", config.metadata
    y = deepseek.routed(g, x, config, i, Routing(k=config.num_experts_per_tok), scale=True)
    if not g.has(blk + "ffn_up_shexp.weight"):
        return y
    n_ff = meta.get("expert_shared_feed_forward_length", int, 0) or config.intermediate_size[i]
    name = blk + "ffn_shexp"
    shared = deepseek.gated(g, x, config, blk + "ffn_", "_shexp", n_ff, scale=True, name=name)
    name = blk + "ffn_gate_inp_shexp"
    gate = project(g, x, f"{name}.weight", 1, name=name)
    shared = gated(g, shared, gate, name=blk + "ffn_shexp_gated")
    return g.add(y, shared, name=blk + "ffn_out")
