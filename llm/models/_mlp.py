"""Feed-forward networks: gated, down(act(gate(x)) * up(x)), and plain, down(act(up(x)))."""

from dataclasses import dataclass

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import bounded_glu

_NO_BOUND = 1e-6  # a bound up to this is none


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


def clamped(config: ModelConfig, key: str, i: int, form: str = "swiglu_clamp") -> Unit:
    """The bounded `form` where `key` has a bound for layer i, else silu."""
    bound = config.metadata.per_layer(key, float, config.num_hidden_layers, 0.0)[i]
    return Unit(form, (bound, 0.0)) if bound > _NO_BOUND else SILU


def clamped_pair(config: ModelConfig, i: int) -> tuple[Unit, Unit]:
    """Units of layer i, of the network that all tokens use and of experts.

    If the file has no bounds for the first, it has those of experts.
    """
    key = "swiglu_clamp_shexp"
    if f"{config.architecture}.{key}" not in config.metadata.values:
        key = "swiglu_clamp_exp"
    return clamped(config, key, i), clamped(config, "swiglu_clamp_exp", i)


def network(
    g: GraphBuilder,
    x: Value,
    prefix: str,
    suffix: str,
    n_ff: int,
    *,
    name: str,
    unit: Unit = SILU,
    bias: bool = False,
    scale: bool = False,
) -> Value:
    """down(unit(gate(x), up(x))) of tensors such as `prefix`gate`suffix`.weight: [rows, x.width].

    `bias` and `scale`: use such tensors, where the file has them.
    """

    def project(y: Value, part: str, width: int, as_name: str) -> Value:
        # here the scale multiplies the bias too, other than in attention
        tensor = f"{prefix}{part}{suffix}"
        bias_name = g.optional(f"{tensor}.bias") if bias else ""
        if not scale or not g.has(f"{tensor}.scale"):
            return g.matmul(y, f"{tensor}.weight", name=as_name, width=width, bias=bias_name)
        step = f"{as_name}.matmul"
        y = g.matmul(y, f"{tensor}.weight", name=step, width=width, bias=bias_name)
        return g.scale(y, float(g.values(f"{tensor}.scale", (1,))[0]), name=as_name)

    gate = project(x, "gate", n_ff, f"{prefix}gate{suffix}")
    up = project(x, "up", n_ff, f"{prefix}up{suffix}")
    h = unit(g, gate, up, f"{prefix}act{suffix}")
    return project(h, "down", x.width, name)


def gated_mlp(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    *,
    act: str = "silu",
    bias: bool = False,
    scale: bool = False,
) -> Value:
    """down(act(gate(x)) * up(x)): [rows, n]. `bias` and `scale`: use such tensors if there are."""
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]
    return network(
        g, x, blk + "ffn_", "", n_ff, unit=Unit(act), bias=bias, scale=scale, name=blk + "ffn_out"
    )


def fused_mlp(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, *, act: str = "silu", bias: bool = False
) -> Value:
    """down(act(gate(x)) * up(x)), gate and up being the halves of one matrix: [rows, n].

    `bias`: use the biases of both matrices if there are such.
    """
    blk, n_ff = f"blk.{i}.", config.intermediate_size[i]

    def own(name: str) -> str:
        return g.optional(f"{blk}{name}.bias") if bias else ""

    weight = blk + "ffn_up.weight"
    both = g.matmul(x, weight, width=2 * n_ff, bias=own("ffn_up"), name=blk + "ffn_gate_up")
    gate = g.columns(both, 0, n_ff, name=blk + "ffn_gate")
    up = g.columns(both, n_ff, 2 * n_ff, name=blk + "ffn_up")
    h = g.glu(gate, up, act=act, name=blk + "ffn_act")
    return g.matmul(
        h, blk + "ffn_down.weight", name=blk + "ffn_out", width=config.hidden_size,
        bias=own("ffn_down"),
    )  # fmt: skip


def plain_mlp(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, *, act: str, squared: bool = False
) -> Value:
    """down(act(up(x))), or the square of act: [rows, n]. Biases that are there are used."""
    blk = f"blk.{i}."
    h = g.matmul(
        x, blk + "ffn_up.weight", name=blk + "ffn_up", width=config.intermediate_size[i],
        bias=g.optional(blk + "ffn_up.bias"),
    )  # fmt: skip
    h = g.activation(h, act=act, name=blk + ("ffn_act.root" if squared else "ffn_act"))
    if squared:
        h = g.mul(h, h, name=blk + "ffn_act")
    return g.matmul(
        h, blk + "ffn_down.weight", name=blk + "ffn_out", width=config.hidden_size,
        bias=g.optional(blk + "ffn_down.bias"),
    )  # fmt: skip
