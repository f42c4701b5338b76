"""Layers of Qwen's hybrids: gated delta nets, and attention with a gate on its output.

Source: Qwen Team, "Qwen3-Next", 2025; Yang et al., "Gated Delta Networks", 2024.
"""

from dataclasses import dataclass, replace
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.delta_net import decay_gate, delta_net, gated, l2_norm
from jitllm.llm.graph.words.heads import head_columns
from jitllm.llm.graph.words.sparse import sparse_attention
from jitllm.llm.graph.words.ssm import causal_conv
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


@dataclass(frozen=True)
class DeltaNet:
    """Sizes of the delta nets of a model.

    Attributes
    ----------
    n_heads, n_key_heads : int
        Heads with a state and value, and heads of queries and keys.
    head_dim : int
        Columns of every head.
    taps : int
        Tokens that the short convolution sees.
    """

    n_heads: int
    n_key_heads: int
    head_dim: int
    taps: int

    @classmethod
    def from_config(cls, config: ModelConfig) -> "DeltaNet":
        """Read the metadata; `ModelFormatError` if sizes do not fit together."""
        meta = config.metadata
        n_heads, inner = meta.get("ssm.time_step_rank", int), meta.get("ssm.inner_size", int)
        sizes = cls(
            n_heads=n_heads,
            n_key_heads=meta.get("ssm.group_count", int),
            head_dim=meta.get("ssm.state_size", int),
            taps=meta.get("ssm.conv_kernel", int),
        )
        if (
            min(n_heads, sizes.n_key_heads, sizes.head_dim, sizes.taps - 1) < 1
            or n_heads % sizes.n_key_heads
            or inner != n_heads * sizes.head_dim
        ):
            raise ModelFormatError(
                f"{config.architecture}: expected ssm.inner_size = ssm.time_step_rank * "
                "ssm.state_size, and a whole number of heads for each of ssm.group_count; got "
                f"{inner} and {sizes}"
            )
        return sizes

    @property
    def key_width(self) -> int:
        """Columns of the queries, and of the keys."""
        return self.n_key_heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Columns of the values."""
        return self.n_heads * self.head_dim


def recurrent_layers(config: ModelConfig) -> tuple[bool, ...]:
    """Whether each layer of the model itself has a delta net in place of attention.

    The file flags them, or says after how many layers one has attention.
    """
    meta, key = config.metadata, "attention.recurrent_layers"
    n_layers = stack.n_layers_of(config)
    if f"{config.architecture}.{key}" in meta.values:
        return meta.per_layer(key, bool, n_layers)
    period = meta.get("full_attention_interval", int, 4)
    if period < 1:
        raise ModelFormatError(
            f"key '{config.architecture}.full_attention_interval': expected 1 or more, got {period}"
        )
    return tuple((i + 1) % period != 0 for i in range(n_layers))


def blocks(
    config: ModelConfig, recurrent: stack.Block, attention: stack.Block, network: stack.Block
) -> stack.Blocks:
    """What layers are made of, those that predict further tokens having attention."""
    is_recurrent = recurrent_layers(config)

    def mixer(x: Value, i: int) -> Value:
        return recurrent(x, i) if i < len(is_recurrent) and is_recurrent[i] else attention(x, i)

    return stack.Blocks(mixer, network, "post_attention_norm")


def gated_attention(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    rotation: Rotation,
    i: int,
    *,
    bias: bool = True,
    chosen: Value | None = None,
) -> Value:
    """Attention whose result is multiplied by sigmoid of a gate: [T, n].

    The matrix of queries gives each head a query and a gate, one behind the other. `chosen` are
    the positions to attend to, from `words.sparse`, all by default.
    """
    heads, size, blk = config.num_attention_heads[i], config.head_dim, f"blk.{i}."
    doubled = replace(config, num_attention_heads=tuple(2 * n for n in config.num_attention_heads))
    if bias:
        both, k, v = attn.qkv(g, x, doubled, i)
    else:
        n_kv = config.num_key_value_heads[i]
        widths = {"q": 2 * heads * size, "k": n_kv * size, "v": n_kv * config.v_head_dim}
        both, k, v = (
            nn.linear(g, x, f"{blk}attn_{part}", width, bias=False)
            for part, width in widths.items()
        )
    q = head_columns(g, both, 0, size, n_heads=heads, name=blk + "attn_q_query")
    gate = head_columns(g, both, size, 2 * size, n_heads=heads, name=blk + "attn_q_gate")
    q, k = attn.head_rms_norms(g, q, k, config, i)
    q, k = attn.rope(g, q, k, rotation, config, i)
    common: dict[str, Any] = {
        "n_heads": heads, "n_kv_heads": config.num_key_value_heads[i], "scale": size**-0.5,
        "name": blk + "kqv_out",
    }  # fmt: skip
    if chosen is None:
        z = g.attention(q, k, v, **common)
    else:
        z = sparse_attention(g, q, k, v, chosen, **common)
    z = gated(g, z, gate, name=blk + "kqv_gated")
    return nn.linear(
        g, z, blk + "attn_output", config.hidden_size, bias=False, as_name=blk + "attn_out"
    )


def delta_attention(
    g: GraphBuilder,
    qkv: Value,
    beta: Value,
    alpha: Value,
    z: Value,
    config: ModelConfig,
    sizes: DeltaNet,
    i: int,
    *,
    tiled: bool,
    act: str = "silu",
) -> Value:
    """The delta net of layer i behind its projections, before its output matrix: [T, H * D].

    Parameters
    ----------
    g : GraphBuilder
    qkv : Value
        Queries, keys and values side by side, before the convolution.
    beta, alpha : Value
        [T, H], of writing and of decay, before their activations.
    z : Value
        [T, H * D], the gate of the output.
    config : ModelConfig
    sizes : DeltaNet
    i : int
    tiled : bool
        As for `delta_net`.
    act : str
        Of the output's gate.
    """
    blk, end, eps = f"blk.{i}.", 2 * sizes.key_width, config.rms_norm_eps
    mixed = causal_conv(
        g, qkv, blk + "ssm_conv1d.weight", taps=sizes.taps, act="silu", name=blk + "ssm_conv"
    )
    qk = g.columns(mixed, 0, end, name=blk + "ssm_conv_qk")
    qk = l2_norm(g, qk, group=sizes.head_dim, eps=eps, name=blk + "ssm_qk")
    q = g.columns(qk, 0, sizes.key_width, name=blk + "ssm_q")
    k = g.columns(qk, sizes.key_width, end, name=blk + "ssm_k")
    v = g.columns(mixed, end, end + sizes.value_width, name=blk + "ssm_v")
    rate = g.values(blk + "ssm_a", (sizes.n_heads,))
    decay = decay_gate(g, alpha, rate, blk + "ssm_dt.bias", name=blk + "ssm_decay")
    beta = g.activation(beta, act="sigmoid", name=blk + "ssm_beta_sigmoid")
    y = delta_net(
        g, q, k, v, decay, beta, n_heads=sizes.n_heads, n_key_heads=sizes.n_key_heads,
        scale=sizes.head_dim**-0.5, tiled=tiled, name=blk + "ssm_y",
    )  # fmt: skip
    y = g.rms_norm(y, blk + "ssm_norm.weight", eps=eps, group=sizes.head_dim, name=blk + "ssm_norm")
    return gated(g, y, z, act=act, name=blk + "ssm_gated")
