"""Pieces that several architectures share: plain and fused networks, layer norms, last steps.

As in `_layers`, every function adds nodes for layer i under the prefix "blk.{i}.".
"""

from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import RopeScaling, Rotation, rotation
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.models import _layers as nn


def layer_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """Layer norm with the tensors `name`.weight and `name`.bias, both of which there must be."""
    eps = config.metadata.get("attention.layer_norm_epsilon", float)
    return g.layer_norm(x, f"{name}.weight", f"{name}.bias", eps=eps, name=name)


def bare_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, group: int = 0) -> Value:
    """RMS norm without weights, over each `group` columns (0: all)."""
    return g.rms_norm(x, "", eps=config.rms_norm_eps, group=group, name=name)


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


def fused_qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values from one matrix that has neither bias nor scale."""
    blk = f"blk.{i}."
    q_width = config.num_attention_heads[i] * config.head_dim
    k_end = q_width + config.num_key_value_heads[i] * config.head_dim
    v_end = k_end + config.num_key_value_heads[i] * config.v_head_dim
    qkv = g.matmul(x, blk + "attn_qkv.weight", width=v_end, name=blk + "attn_qkv")
    q = g.columns(qkv, 0, q_width, name=blk + "attn_q")
    k = g.columns(qkv, q_width, k_end, name=blk + "attn_k")
    return q, k, g.columns(qkv, k_end, v_end, name=blk + "attn_v")


def attend(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    rotation: Rotation | None,
    *,
    head_norms: bool = False,
    bias: bool = False,
    **rules: Any,
) -> Value:
    """A whole attention block of normalized rows: [T, n].

    `rotation` is None for a layer without rope; `head_norms` are RMS norms on the heads of q and
    k, before rope; `bias`: use that of the output matrix if there is one; `rules` are those of
    `nn.attention`.
    """
    q, k, v = nn.qkv(g, x, config, i)
    if head_norms:
        q, k = nn.head_norms(g, q, k, config, i)
    if rotation is not None:
        q, k = nn.turn(g, q, k, rotation, config, i)
    return nn.attend(g, q, k, v, config, i, bias=bias, **rules)


def gated_attention_output(
    g: GraphBuilder, z: Value, x: Value, config: ModelConfig, i: int, *, width: int
) -> Value:
    """The output matrix after z * sigmoid(gate(x)), x being the attention's input: [T, n].

    A column of the gate's `width` belongs to as many columns of z as come to each. Source: Qiu et
    al., "Gated Attention for Large Language Models", 2025.
    """
    name = f"blk.{i}.attn_gate"
    gate = g.matmul(x, f"{name}.weight", name=name, width=width)
    return nn.attention_output(g, gated(g, z, gate, name=f"blk.{i}.kqv_gated"), config, i)


def window_rotation(
    config: ModelConfig, kind: str, *, theta: float | None = None, scaled: bool = True
) -> Rotation:
    """Rotation of layers with a window, which may have a base of their own.

    `theta` is their base if the metadata do not say, by default that of the other layers; unless
    `scaled`, they are not stretched.
    """
    theta = config.rope_theta if theta is None else theta
    theta = config.metadata.get("rope.freq_base_swa", float, theta)
    scaling = config.rope_scaling
    if not scaled:
        scaling = RopeScaling(attention_factor=scaling.attention_factor)
    n_rot = config.metadata.get("rope.dimension_count_swa", int, config.rotary_dim)
    return rotation(kind, n_rot, theta, scaling)


def has_rope_sections(config: ModelConfig) -> bool:
    """Whether the metadata split the columns that turn between several kinds of positions.

    These are alike for text, so such a model has common rope, its pairs half of the columns apart.
    Source: Wang et al., "Qwen2-VL", 2024.
    """
    sections = config.metadata.values.get(f"{config.architecture}.rope.dimension_sections")
    return sections is not None and len(sections) > 1 and sections[0] > 0 and sections[1] > 0


def output(
    g: GraphBuilder, x: Value, config: ModelConfig, *, name: str = "output", block: int = 0
) -> Value:
    """The output matrix, or the embedding table, without bias: [rows, vocab_size].

    Layer `block` may have an output matrix of its own, if it predicts further tokens.
    """
    for tensor in (f"blk.{block}.nextn.shared_head_head", "output"):
        if g.has(f"{tensor}.weight"):
            return nn.linear(g, x, tensor, config.vocab_size, bias=False, as_name=name)
    return g.matmul(x, "token_embd.weight", name=name, width=config.vocab_size)


def scaled(g: GraphBuilder, x: Value, factor: float, name: str) -> Value:
    """x * factor; x itself where the factor is 1, or 0 because the file has none."""
    return x if factor in (0.0, 1.0) else g.scale(x, factor, name=name)


def scaled_logits(
    g: GraphBuilder, x: Value, config: ModelConfig, factor: float, cap: float = 0.0
) -> None:
    """Final norm, output matrix, times `factor`, then within -`cap` and `cap` if that is not 0."""
    last = "output.uncapped" if cap else "output"
    y = nn.logits(g, x, config, name="output.unscaled" if factor != 1.0 else last)
    if factor != 1.0:
        y = g.scale(y, factor, name=last)
    if cap:
        g.soft_cap(y, cap, name="output")
