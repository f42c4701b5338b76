"""Nemotron H, layers of Mamba-2, attention or a network alone: "nemotron_h".

Source: NVIDIA, "Nemotron-H", 2025; with experts: "Nemotron 3", 2025.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.models import _layers as nn
from jitllm.llm.models._deepseek import n_layers_of
from jitllm.llm.models._mamba import mamba2


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a layer is one block; its sizes say which."""
    x = nn.embeddings(g, config)
    for i in range(n_layers_of(config)):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        if config.intermediate_size[i]:
            h = _network(g, h, config, i)
        elif config.num_key_value_heads[i]:
            q, k, v = nn.qkv(g, h, config, i)
            h = nn.attend(g, q, k, v, config, i, bias=True)
        else:
            h = mamba2(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)


def _network(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A network of two matrices and the square of a ReLU, or experts made so: [rows, n]."""
    blk = f"blk.{i}."
    if not g.has(blk + "ffn_gate_inp.weight"):
        return _plain(g, x, config, f"{blk}ffn_", "", config.intermediate_size[i], blk + "ffn_out")
    n_shared = config.metadata.get("expert_shared_feed_forward_length", int, 0)
    shared = _plain(g, x, config, f"{blk}ffn_", "_shexp", n_shared, blk + "ffn_shexp")
    return g.add(_experts(g, x, config, i), shared, name=blk + "ffn_out")


def _plain(
    g: GraphBuilder, x: Value, config: ModelConfig, prefix: str, suffix: str, n_ff: int, name: str
) -> Value:
    """down(relu(up(x))^2); the scale of a matrix multiplies its bias too."""

    def project(y: Value, part: str, width: int, as_name: str) -> Value:
        tensor = f"{prefix}{part}{suffix}"
        bias, has_scale = g.optional(f"{tensor}.bias"), g.has(f"{tensor}.scale")
        step = f"{as_name}.matmul" if has_scale else as_name
        y = g.matmul(y, f"{tensor}.weight", width=width, bias=bias, name=step)
        if not has_scale:
            return y
        return g.scale(y, float(g.values(f"{tensor}.scale", (1,))[0]), name=as_name)

    h = project(x, "up", n_ff, f"{prefix}up{suffix}")
    h = g.activation(h, act="relu_squared", name=f"{prefix}act{suffix}")
    return project(h, "down", config.hidden_size, name)


def _experts(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """Experts chosen by sigmoids of the router, which may work on fewer columns: [rows, n]."""
    blk, meta, n_experts = f"blk.{i}.", config.metadata, config.num_experts
    logits = g.matmul(
        x, blk + "ffn_gate_inp.weight", width=n_experts, name=blk + "ffn_moe_logits"
    )  # fmt: skip
    if g.has(blk + "ffn_latent_down.weight"):
        x = g.matmul(x, blk + "ffn_latent_down.weight", name=blk + "ffn_latent_down")
    routing = Routing(
        meta.per_layer("expert_used_count", int, config.num_hidden_layers)[i],
        gating="sigmoid",
        norm=meta.get("expert_weights_norm", bool, False),
        factor=meta.get("expert_weights_scale", float, 0.0) or 1.0,
        bias=blk + "exp_probs_b.bias",
        n_group=max(1, meta.get("expert_group_count", int, 0)),
        topk_group=max(1, meta.get("expert_group_used_count", int, 0)),
    )

    def scales(part: str) -> Floats | None:
        tensor = f"{blk}ffn_{part}_exps.scale"
        return g.values(tensor, (n_experts,)) if g.has(tensor) else None

    y = experts(
        g, x, logits, routing, up=blk + "ffn_up_exps.weight", down=blk + "ffn_down_exps.weight",
        act="relu_squared", scales=(None, scales("up"), scales("down")), name=blk + "ffn_moe_out",
    )  # fmt: skip
    if g.has(blk + "ffn_latent_up.weight"):
        weight, name = blk + "ffn_latent_up.weight", blk + "ffn_latent_up"
        y = g.matmul(y, weight, width=config.hidden_size, name=name)
    return y
