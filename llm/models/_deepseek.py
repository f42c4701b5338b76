"""What DeepSeek's models since version 2 and their kin share: layers, experts beside a shared one.

Source: DeepSeek-AI, "DeepSeek-V2" and "DeepSeek-V3", 2024.
"""

from collections.abc import Callable

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.models import _layers as nn

Block = Callable[[Value, int], Value]
_GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_topk", 4: "sqrt_softplus"}


def n_layers_of(config: ModelConfig) -> int:
    """Layers of the model itself: without those that predict further tokens."""
    return config.num_hidden_layers - config.metadata.get("nextn_predict_layers", int, 0)


def layers(g: GraphBuilder, config: ModelConfig, attention: Block, feed_forward: Block) -> None:
    """Add embeddings, layers (a norm and a block, added to the residual stream, twice) and logits.

    The blocks get normalized rows [T, n] and the number of the layer, and return rows [T, n].
    """
    x = nn.embeddings(g, config)
    for i in range(n_layers_of(config)):
        h = attention(nn.norm(g, x, config, f"blk.{i}.attn_norm"), i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        h = feed_forward(nn.norm(g, x, config, f"blk.{i}.ffn_norm"), i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)


def feed_forward(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    *,
    scale: bool = False,
    default_gating: str = "softmax",
) -> Value:
    """A gated network in the leading layers, experts and a shared one in the others: [T, n].

    Parameters
    ----------
    scale : bool
        Use the scales of matrices, where the file has them.
    default_gating : str
        Where the file does not say.
    """
    if i < config.metadata.get("leading_dense_block_count", int, 0):
        width = config.intermediate_size[i]
        return gated(g, x, config, f"blk.{i}.ffn_", "", width, scale=scale, name=f"blk.{i}.ffn_out")
    blk = f"blk.{i}."
    routing = routing_of(g, config, i, default_gating)
    y = routed(g, x, config, i, routing, scale=scale)
    n_ff = config.moe_intermediate_size * config.metadata.get("expert_shared_count", int, 0)
    shared = gated(g, x, config, blk + "ffn_", "_shexp", n_ff, scale=scale, name=blk + "ffn_shexp")
    return g.add(y, shared, name=blk + "ffn_out")


def gated(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    prefix: str,
    suffix: str,
    n_ff: int,
    *,
    scale: bool,
    name: str,
) -> Value:
    """down(silu(gate(x)) * up(x)) of tensors such as `prefix`gate`suffix`.weight: [T, n]."""

    def project(y: Value, part: str, width: int, as_name: str) -> Value:
        tensor = f"{prefix}{part}{suffix}"
        if scale:
            return nn.linear(g, y, tensor, width, bias=False, as_name=as_name)
        return g.matmul(y, f"{tensor}.weight", name=as_name, width=width)

    gate = project(x, "gate", n_ff, f"{prefix}gate{suffix}")
    up = project(x, "up", n_ff, f"{prefix}up{suffix}")
    h = g.glu(gate, up, act="silu", name=f"{prefix}act{suffix}")
    return project(h, "down", config.hidden_size, name)


def routing_of(g: GraphBuilder, config: ModelConfig, i: int, default_gating: str) -> Routing:
    """Return how the file says that experts are chosen and weighted in layer i."""
    meta = config.metadata
    gating = meta.get("expert_gating_func", int, 0)
    if gating and gating not in _GATINGS:
        raise ModelFormatError(
            f"key '{meta.architecture}.expert_gating_func': expected one of {sorted(_GATINGS)}, "
            f"got {gating}"
        )
    return Routing(
        k=config.num_experts_per_tok,
        gating=_GATINGS[gating] if gating else default_gating,
        norm=meta.get("expert_weights_norm", bool, False),
        factor=meta.get("expert_weights_scale", float, 0.0) or 1.0,
        bias=g.optional(f"blk.{i}.exp_probs_b.bias"),
        n_group=max(1, meta.get("expert_group_count", int, 0)),
        topk_group=max(1, meta.get("expert_group_used_count", int, 0)),
    )


def routed(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, routing: Routing, *, scale: bool
) -> Value:
    """A router and its experts: [T, n]. Gate and up of an expert may be one matrix."""
    blk, n_experts = f"blk.{i}.", config.num_experts

    def scales(part: str) -> Floats | None:
        tensor = f"{blk}ffn_{part}_exps.scale"
        return g.values(tensor, (n_experts,)) if scale and g.has(tensor) else None

    logits = g.matmul(
        x, blk + "ffn_gate_inp.weight", width=n_experts, name=blk + "ffn_moe_logits"
    )  # fmt: skip
    fused = g.has(blk + "ffn_gate_up_exps.weight")
    return experts(
        g, x, logits, routing,
        gate="" if fused else blk + "ffn_gate_exps.weight",
        up=blk + ("ffn_gate_up_exps.weight" if fused else "ffn_up_exps.weight"),
        down=blk + "ffn_down_exps.weight",
        fused=fused, scales=(scales("gate"), scales("up"), scales("down")),
        name=blk + "ffn_moe_out",
    )  # fmt: skip
