"""What DeepSeek's models since version 2 and their kin share: layers, experts beside a shared one.

Source: DeepSeek-AI, "DeepSeek-V2" and "DeepSeek-V3", 2024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words import bounded_glu
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


@dataclass(frozen=True)
class Unit:
    """How gate and up make what goes down: `act` of `GraphBuilder.glu` or of `bounded_glu`."""

    act: str = "silu"
    bounds: tuple[float, float] = (0.0, 0.0)

    def __call__(self, g: GraphBuilder, gate: Value, up: Value, name: str) -> Value:
        """act(gate) * up, or the bounded form: [rows, width]."""
        if self.act in bounded_glu.FORMS:
            bounds = self.bounds
            return bounded_glu.bounded_glu(g, gate, up, act=self.act, bounds=bounds, name=name)
        return g.glu(gate, up, act=self.act, name=name)


SILU = Unit()


def clamped(config: ModelConfig, key: str, i: int) -> Unit:
    """silu(gate) * up, both held within the bound that `key` has for layer i, if it has one."""
    bound = config.metadata.per_layer(key, float, config.num_hidden_layers, 0.0)[i]
    return Unit("swiglu_clamp", (bound, 0.0)) if bound > 1e-6 else SILU


def feed_forward(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    *,
    scale: bool = False,
    default_gating: str = "softmax",
    unit: Unit = SILU,
    expert_unit: Unit | None = None,
    chosen: Value | None = None,
) -> Value:
    """A gated network in the leading layers, experts and a shared one in the others: [T, n].

    Parameters
    ----------
    g : GraphBuilder
    x : Value
        Normalized rows [T, n].
    config : ModelConfig
    i : int
        The layer.
    scale : bool
        Use the scales of matrices, where the file has them.
    default_gating : str
        Where the file does not say.
    unit, expert_unit : Unit
        Of the networks that all tokens use, and of experts if theirs is another.
    chosen : Value, optional
        Numbers of the experts [T, k], which are then not chosen by the router.
    """
    blk = f"blk.{i}."
    common: dict[str, Any] = {"scale": scale, "unit": unit}
    if i < config.metadata.get("leading_dense_block_count", int, 0):
        width = config.intermediate_size[i]
        return gated(g, x, config, blk + "ffn_", "", width, **common, name=blk + "ffn_out")
    routing = routing_of(g, config, i, default_gating)
    y = routed(
        g, x, config, i, routing, scale=scale, unit=expert_unit or unit, chosen=chosen
    )  # fmt: skip
    n_ff = config.moe_intermediate_size * config.metadata.get("expert_shared_count", int, 0)
    name = blk + "ffn_shexp"
    shared = gated(g, x, config, blk + "ffn_", "_shexp", n_ff, **common, name=name)
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
    unit: Unit = SILU,
) -> Value:
    """down(unit(gate(x), up(x))) of tensors such as `prefix`gate`suffix`.weight: [T, n]."""

    def project(y: Value, part: str, width: int, as_name: str) -> Value:
        tensor = f"{prefix}{part}{suffix}"
        if scale:
            return nn.linear(g, y, tensor, width, bias=False, as_name=as_name)
        return g.matmul(y, f"{tensor}.weight", name=as_name, width=width)

    gate = project(x, "gate", n_ff, f"{prefix}gate{suffix}")
    up = project(x, "up", n_ff, f"{prefix}up{suffix}")
    h = unit(g, gate, up, f"{prefix}act{suffix}")
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
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    routing: Routing,
    *,
    scale: bool,
    unit: Unit = SILU,
    chosen: Value | None = None,
) -> Value:
    """A router and its experts: [T, n]. Gate and up of an expert may be one matrix."""
    blk, n_experts = f"blk.{i}.", config.num_experts

    def scales(part: str) -> Floats | None:
        tensor = f"{blk}ffn_{part}_exps.scale"
        return g.values(tensor, (n_experts,)) if scale and g.has(tensor) else None

    router = blk + "ffn_gate_inp.weight"
    logits = g.matmul(x, router, width=n_experts, name=blk + "ffn_moe_logits")
    fused = g.has(blk + "ffn_gate_up_exps.weight")
    return experts(
        g, x, logits, routing,
        gate="" if fused else blk + "ffn_gate_exps.weight",
        up=blk + ("ffn_gate_up_exps.weight" if fused else "ffn_up_exps.weight"),
        down=blk + "ffn_down_exps.weight",
        fused=fused, scales=(scales("gate"), scales("up"), scales("down")),
        act=unit.act, bounds=unit.bounds, chosen=chosen, name=blk + "ffn_moe_out",
    )  # fmt: skip
