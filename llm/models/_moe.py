"""What mixtures of experts share: attention with its options, routers, experts, shared experts.

As in `_layers`, functions add nodes for layer i under the prefix "blk.{i}.".
"""

from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.experts import Routing, Three, experts
from jitllm.llm.models import _deepseek as deepseek
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def attend(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    rotation: Rotation | None,
    *,
    head_norms: bool = False,
    **rules: Any,
) -> Value:
    """A whole attention block of normalized rows: [T, n].

    `rotation` is None for a layer without rope; `head_norms` are RMS norms on the heads of q and
    k, before rope; `rules` are for `_dense.attend`.
    """
    q, k, v = nn.qkv(g, x, config, i)
    if head_norms:
        q, k = nn.head_norms(g, q, k, config, i)
    if rotation is not None:
        q, k = nn.turn(g, q, k, rotation, config, i)
    return dense.attend(g, (q, k, v), config, i, **rules)


def softmax_routing(config: ModelConfig, *, norm: bool) -> Routing:
    """The best experts by softmax, their weights as they are or (`norm`) with sum 1."""
    factor = config.metadata.get("expert_weights_scale", float, 0.0) or 1.0
    return Routing(config.num_experts_per_tok, norm=norm, factor=factor)


def mixture(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    routing: Routing,
    *,
    act: str = "silu",
    bounds: tuple[float, float] = (0.0, 0.0),
    scale: bool = False,
    bias: bool = False,
) -> Value:
    """Experts, and one more for all tokens if the file has it: [rows, n].

    `act` and `bounds` are those of `experts`; the one for all tokens is a gated network with silu.
    `scale`: use the scales of matrices, where the file has them; `bias`: router and experts have
    biases.
    """
    blk = f"blk.{i}."
    has_shared = g.has(blk + "ffn_up_shexp.weight")
    y = routed(
        g, x, config, i, routing, act=act, bounds=bounds, scale=scale, bias=bias,
        name=blk + ("ffn_moe_out" if has_shared else "ffn_out"),
    )  # fmt: skip
    return g.add(y, shared(g, x, config, i, scale=scale), name=blk + "ffn_out") if has_shared else y


def shared(g: GraphBuilder, x: Value, config: ModelConfig, i: int, *, scale: bool = False) -> Value:
    """The expert that all tokens use: [rows, n]."""
    blk = f"blk.{i}."
    n_ff = g.weight(blk + "ffn_up_shexp.weight", (-1, x.width))[0]
    return deepseek.gated(
        g, x, config, blk + "ffn_", "_shexp", n_ff, scale=scale, name=blk + "ffn_shexp"
    )


def routed(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    routing: Routing,
    *,
    act: str = "silu",
    bounds: tuple[float, float] = (0.0, 0.0),
    scale: bool = False,
    bias: bool = False,
    name: str = "",
) -> Value:
    """A router and its experts: [rows, n]. Gate and up of an expert may be one matrix."""
    blk = f"blk.{i}."
    logits = router(g, x, config, i, bias=bias)
    fused = g.has(blk + "ffn_gate_up_exps.weight")
    scales, biases = (_arrays(g, blk, end) for end in ("scale", "bias"))
    return experts(
        g, x, logits, routing,
        gate="" if fused else g.optional(blk + "ffn_gate_exps.weight"),
        up=blk + ("ffn_gate_up_exps.weight" if fused else "ffn_up_exps.weight"),
        down=blk + "ffn_down_exps.weight",
        fused=fused, act=act, bounds=bounds, scales=scales if scale else None,
        biases=biases if bias else None, name=name or blk + "ffn_out",
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


def is_dense(config: ModelConfig, i: int) -> bool:
    """Whether layer i is one of the leading ones, which have no experts."""
    return i < config.metadata.get("leading_dense_block_count", int, 0)


def ends_period(config: ModelConfig, i: int) -> bool:
    """Whether layer i is the last of a period of "interleave_moe_layer_step": it has experts."""
    step = config.metadata.get("interleave_moe_layer_step", int)
    return step > 0 and (i + 1) % step == 0


def routing_of(g: GraphBuilder, config: ModelConfig, i: int, default_gating: str = "") -> Routing:
    """The routing that the metadata describe.

    Raises
    ------
    ModelFormatError
        If they name no gating and there is no default.
    """
    meta = config.metadata
    if not default_gating and not meta.get("expert_gating_func", int, 0):
        raise ModelFormatError(
            f"key '{meta.architecture}.expert_gating_func': expected a number above 0, got none"
        )
    return deepseek.routing_of(g, config, i, default_gating)


def leading_windows_of(config: ModelConfig, period: int) -> tuple[int, ...]:
    """Window of each layer as `nn.windows_of`, but it is layers 0, p, 2 p, ... that have none."""
    key = f"{config.architecture}.attention.sliding_window_pattern"
    if not isinstance(config.metadata.values.get(key, 0), int):
        return nn.windows_of(config, period)
    period = config.metadata.get("attention.sliding_window_pattern", int, period)
    layers = range(config.num_hidden_layers)
    return tuple(config.sliding_window if not period or i % period else 0 for i in layers)
