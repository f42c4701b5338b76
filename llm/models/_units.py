"""Gated networks and experts whose units are bounded, as some models' are in some layers."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.bounded_glu import bounded_glu
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.models import _deepseek as deepseek

Unit = tuple[str, tuple[float, float]]  # name of the activation and its bounds
SILU: Unit = ("silu", (0.0, 0.0))
_NO_LIMIT = 1e-6  # a limit up to this is none


def limited(config: ModelConfig, key: str, form: str) -> list[Unit]:
    """Return the unit of each layer: silu, or `form` where the file has a limit under `key`."""
    limits = config.metadata.per_layer(key, float, config.num_hidden_layers, 0.0)
    return [(form, (limit, 0.0)) if limit > _NO_LIMIT else SILU for limit in limits]


def network(
    g: GraphBuilder, x: Value, prefix: str, suffix: str, n_ff: int, unit: Unit, *, name: str
) -> Value:
    """down(unit(gate(x), up(x))) of tensors such as `prefix`gate`suffix`.weight: [rows, n]."""
    gate, up = (
        g.matmul(x, f"{prefix}{part}{suffix}.weight", width=n_ff, name=f"{prefix}{part}{suffix}")
        for part in ("gate", "up")
    )
    act, bounds = unit
    h_name = f"{prefix}act{suffix}"
    if unit == SILU:
        h = g.glu(gate, up, act=act, name=h_name)
    else:
        h = bounded_glu(g, gate, up, act=act, bounds=bounds, name=h_name)
    return g.matmul(h, f"{prefix}down{suffix}.weight", width=x.width, name=name)


def routed(g: GraphBuilder, x: Value, logits: Value, routing: Routing, unit: Unit, i: int) -> Value:
    """The experts of layer i, chosen by `logits` [rows, E], applied to x [rows, n]: [rows, n]."""
    blk, (act, bounds) = f"blk.{i}.", unit
    return experts(
        g, x, logits, routing, gate=blk + "ffn_gate_exps.weight", up=blk + "ffn_up_exps.weight",
        down=blk + "ffn_down_exps.weight", act=act, bounds=bounds, name=blk + "ffn_moe_out",
    )  # fmt: skip


def router(g: GraphBuilder, x: Value, n_experts: int, i: int) -> Value:
    """Logits of the experts of layer i: [rows, E]."""
    blk = f"blk.{i}."
    return g.matmul(x, blk + "ffn_gate_inp.weight", width=n_experts, name=blk + "ffn_moe_logits")


def feed_forward(
    g: GraphBuilder, x: Value, config: ModelConfig, dense: Unit, expert: Unit, n_shared: int, i: int
) -> Value:
    """A network in the leading layers, experts and a shared one in the others: [rows, n].

    `dense` is the unit of networks, `expert` that of experts, `n_shared` the columns of the middle
    of the shared one.
    """
    blk = f"blk.{i}."
    if i < config.metadata.get("leading_dense_block_count", int, 0):
        n_ff = config.intermediate_size[i]
        return network(g, x, blk + "ffn_", "", n_ff, dense, name=blk + "ffn_out")
    routing = deepseek.routing_of(g, config, i, "sigmoid")
    y = routed(g, x, router(g, x, config.num_experts, i), routing, expert, i)
    shared = network(g, x, blk + "ffn_", "_shexp", n_shared, dense, name=blk + "ffn_shexp")
    return g.add(y, shared, name=blk + "ffn_out")
