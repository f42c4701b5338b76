"""Command A with experts: "cohere2moe". Source: Cohere, "Command A", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 4  # a layer without a window, then three with


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention beside experts, rope only beside windows and in dense layers."""
    rotation = ropes.rope_of(g, config, "norm")
    windows = attn.leading_windows_of(config, WINDOW_PERIOD)
    x = nn.embeddings(g, config)
    for i in range(stack.n_layers_of(config)):
        turned = rotation if windows[i] or moe.is_dense(config, i) else None
        x = _layer(g, x, config, turned, windows[i], i)
    x = lm_head.normed_outputs(g, x, lambda x, name: _norm(g, x, config, name, name))
    _output(g, x, config, 0)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens: it has rope in any case."""
    i, window = nextn.layer_of(g, config, block), attn.leading_windows_of(config, WINDOW_PERIOD)

    def norm(x: Value, name: str, tensor: str) -> Value:
        return _norm(g, x, config, name, tensor)

    x = nextn.begins(g, config, i, norm)
    x = _layer(g, x, config, ropes.rope_of(g, config, "norm"), window[i], i)
    _output(g, nextn.ends(g, x, i, norm), config, i)


def _layer(
    g: GraphBuilder, x: Value, config: ModelConfig, rotation: Rotation | None, window: int, i: int
) -> Value:
    h = _norm(g, x, config, f"blk.{i}.attn_norm", f"blk.{i}.attn_norm")
    z = attn.block(g, h, config, i, rotation, window=window)
    return stack.side_by_side(g, x, z, _network(g, h, config, i), i)


def _norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, tensor: str) -> Value:
    if config.metadata.get("attention.layer_norm_rms_epsilon", float, 0.0):
        return nn.rms_norm(g, x, config, name, tensor)
    eps = config.metadata.get("attention.layer_norm_epsilon", float)
    return g.layer_norm(x, f"{tensor}.weight", g.optional(f"{tensor}.bias"), eps=eps, name=name)


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    if not g.has(f"blk.{i}.ffn_gate_inp.weight"):
        return mlp.gated_mlp(g, x, config, i, scale=True)
    routing = moe.routing_of(g, config, i, "sigmoid")
    if not g.has(f"blk.{i}.ffn_up_shexp.weight"):
        return moe.routed(g, x, config, i, routing, scale=True)
    y = moe.routed(g, x, config, i, routing, scale=True, name=f"blk.{i}.ffn_moe_out")
    y = g.add(y, moe.shared(g, x, i, scale=True), name=f"blk.{i}.ffn_sum")
    return g.scale(y, 0.5, name=f"blk.{i}.ffn_out")


def _output(g: GraphBuilder, x: Value, config: ModelConfig, block: int) -> None:
    factor = config.metadata.get("logit_scale", float) or 1.0
    is_last = factor == 1.0
    x = lm_head.output(g, x, config, name="output" if is_last else "output.matmul", block=block)
    if not is_last:
        g.scale(x, factor, name="output")
