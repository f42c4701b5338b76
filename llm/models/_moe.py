"""Mixtures of experts: routing, routers, experts, networks that all tokens use beside them.

Functions add nodes for layer i under the prefix "blk.{i}.".
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.experts import Routing, Three, experts
from jitllm.llm.graph.words.row_dot import project
from jitllm.llm.models._mlp import SILU, Unit, network

_GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_topk", 4: "sqrt_softplus"}


def is_dense(config: ModelConfig, i: int) -> bool:
    """Whether layer i is one of the leading ones, which have no experts."""
    return i < config.metadata.get("leading_dense_block_count", int, 0)


def ends_period(config: ModelConfig, i: int) -> bool:
    """Whether layer i is the last of a period of "interleave_moe_layer_step": it has experts."""
    step = config.metadata.get("interleave_moe_layer_step", int)
    return step > 0 and (i + 1) % step == 0


def softmax_routing(config: ModelConfig, *, norm: bool) -> Routing:
    """The best experts by softmax, their weights as they are or (`norm`) with sum 1."""
    factor = config.metadata.get("expert_weights_scale", float, 0.0) or 1.0
    return Routing(config.num_experts_per_tok, norm=norm, factor=factor)


def routing_of(g: GraphBuilder, config: ModelConfig, i: int, default_gating: str = "") -> Routing:
    """The routing of layer i that the metadata describe.

    Raises
    ------
    ModelFormatError
        If they name no gating and there is no default, or one that does not exist.
    """
    meta = config.metadata
    gating = meta.get("expert_gating_func", int, 0)
    if gating not in _GATINGS and (gating or not default_gating):
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


def feed_forward(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    *,
    default_gating: str = "softmax",
    unit: Unit = SILU,
    expert_unit: Unit | None = None,
    scale: bool = False,
    chosen: Value | None = None,
) -> Value:
    """A gated network in the leading layers, experts in the others: [rows, n].

    Parameters
    ----------
    g : GraphBuilder
    x : Value
        Normalized rows [rows, n].
    config : ModelConfig
    i : int
        The layer.
    default_gating : str
        Where the file does not say; "" if it must.
    unit, expert_unit : Unit
        Of the networks that all tokens use, and of experts if theirs is another.
    scale : bool
        Use the scales of matrices, where the file has them.
    chosen : Value, optional
        Numbers of the experts [rows, k], which are then not chosen by the router.
    """
    if is_dense(config, i):
        blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
        name = blk + "ffn_out"
        return network(g, x, blk + "ffn_", "", n_ff, unit=unit, scale=scale, name=name)
    return mixture(
        g, x, config, i, routing_of(g, config, i, default_gating), unit=expert_unit or unit,
        shared_unit=unit, scale=scale, chosen=chosen,
    )  # fmt: skip


def mixture(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    routing: Routing,
    *,
    unit: Unit = SILU,
    shared_unit: Unit = SILU,
    scale: bool = False,
    bias: bool = False,
    chosen: Value | None = None,
) -> Value:
    """Experts, and one more for all tokens if the file has it: [rows, n].

    See `routed` and `shared`.
    """
    name = f"blk.{i}.ffn_out"
    has_shared = g.has(f"blk.{i}.ffn_up_shexp.weight")
    y = routed(
        g, x, config, i, routing, unit=unit, scale=scale, bias=bias, chosen=chosen,
        name=f"blk.{i}.ffn_moe_out" if has_shared else name,
    )  # fmt: skip
    if not has_shared:
        return y
    return g.add(y, shared(g, x, i, unit=shared_unit, scale=scale), name=name)


def normalized_mixture(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A router and its experts, their weights normalized to sum 1: [rows, n]."""
    return mixture(g, x, config, i, Routing(config.num_experts_per_tok), scale=True)


def shared(
    g: GraphBuilder, x: Value, i: int, *, unit: Unit = SILU, scale: bool = False
) -> Value:  # fmt: skip
    """The expert that all tokens use, times sigmoid(w x) if the file has a w for it: [rows, n]."""
    blk = f"blk.{i}."
    n_ff = g.weight(blk + "ffn_up_shexp.weight", (-1, x.width))[0]
    name = blk + "ffn_shexp"
    y = network(g, x, blk + "ffn_", "_shexp", n_ff, unit=unit, scale=scale, name=name)
    gate_name = blk + "ffn_gate_inp_shexp"
    if not g.has(f"{gate_name}.weight"):
        return y
    gate = project(g, x, f"{gate_name}.weight", 1, name=gate_name)
    return gated(g, y, gate, name=f"{name}_gated")


def routed(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    routing: Routing,
    *,
    unit: Unit = SILU,
    scale: bool = False,
    bias: bool = False,
    chosen: Value | None = None,
    logits: Value | None = None,
    name: str = "",
) -> Value:
    """A router and its experts: [rows, n]. Gate and up of an expert may be one matrix, or up alone.

    Parameters
    ----------
    g : GraphBuilder
    x : Value
        Normalized rows [rows, n].
    config : ModelConfig
    i : int
        The layer.
    routing : Routing
    unit : Unit
        Of the experts.
    scale : bool
        Use the scales of matrices, where the file has them.
    bias : bool
        Router and experts have biases.
    chosen : Value, optional
        Numbers of the experts [rows, k], which are then not chosen by the router.
    logits : Value, optional
        The router's [rows, E], if it does not see x.
    name : str
        Of the result, "blk.{i}.ffn_out" unless given.
    """
    blk = f"blk.{i}."
    logits = logits or router(g, x, config, i, bias=bias)
    fused = g.has(blk + "ffn_gate_up_exps.weight")
    return experts(
        g, x, logits, routing,
        gate="" if fused else g.optional(blk + "ffn_gate_exps.weight"),
        up=blk + ("ffn_gate_up_exps.weight" if fused else "ffn_up_exps.weight"),
        down=blk + "ffn_down_exps.weight", fused=fused, act=unit.act, bounds=unit.bounds,
        scales=_arrays(g, blk, "scale") if scale else None,
        biases=_arrays(g, blk, "bias") if bias else None,
        chosen=chosen, name=name or blk + "ffn_out",
    )  # fmt: skip


def router(g: GraphBuilder, x: Value, config: ModelConfig, i: int, *, bias: bool = False) -> Value:
    """The router's logits: [rows, E]."""
    name = f"blk.{i}.ffn_gate_inp"
    return g.matmul(
        x, f"{name}.weight", width=config.num_experts, bias=f"{name}.bias" if bias else "",
        name=f"blk.{i}.ffn_moe_logits",
    )  # fmt: skip


def _arrays(g: GraphBuilder, blk: str, end: str) -> Three:
    """The small tensors of the layer's stacks, in the order gate, up, down."""

    def read(part: str) -> Floats | None:
        name = f"{blk}ffn_{part}_exps.{end}"
        return g.values(name, tuple(g.tensors[name].shape)) if g.has(name) else None

    return read("gate"), read("up"), read("down")
