"""What the dense decoders share: norms, positions, attention by the word, orders of a layer.

As in `_layers`, every function adds nodes for layer i under the prefix "blk.{i}.".
"""

from collections.abc import Callable
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation, rotation
from jitllm.llm.graph.words.clamp import clamp
from jitllm.llm.graph.words.embed_positions import embed_positions
from jitllm.llm.graph.words.head_layer_norm import head_layer_norm
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn

Heads = tuple[Value, Value, Value]
Block = Callable[[Value, int], Value]
Norm = Callable[[Value, str], Value]


def layer_eps(config: ModelConfig) -> float:
    """Epsilon of the layer norms."""
    return config.metadata.get("attention.layer_norm_epsilon", float)


def layer_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """Layer norm with the tensors `name`.weight and `name`.bias, those that are there."""
    weight, bias = g.optional(f"{name}.weight"), g.optional(f"{name}.bias")
    return g.layer_norm(x, weight, bias, eps=layer_eps(config), name=name)


def with_positions(g: GraphBuilder, x: Value, config: ModelConfig) -> Value:
    """x and the learned embeddings of the positions: [T, n]."""
    positions = embed_positions(g, "position_embd.weight", width=x.width, name="position_embd")
    return g.add(x, positions, name="inp_positions")


def plain_rope(config: ModelConfig, kind: str) -> Rotation:
    """The rotation of models that use no factors of frequencies, even if the file has some."""
    return rotation(kind, config.rotary_dim, config.rope_theta, config.rope_scaling)


def rope(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation with whatever factors of frequencies the file has."""
    if config.rope_scaling.type == "longrope":
        return nn.long_rope_of(g, config, kind)
    return nn.rope_of(g, config, kind)


def clamped_qkv(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Heads:
    """Queries, keys and values, within the bounds that the metadata may set."""
    heads = nn.qkv(g, x, config, i)
    bound = config.metadata.get("attention.clamp_kqv", float, 0.0)
    if not bound > 0:
        return heads
    q, k, v = (clamp(g, part, bound, name=f"{part.name}_clamped") for part in heads)
    return q, k, v


def turned_qkv(
    g: GraphBuilder, x: Value, config: ModelConfig, rotation: Rotation | None, i: int
) -> Heads:
    """Queries, keys and values, the first two turned unless `rotation` is None."""
    q, k, v = clamped_qkv(g, x, config, i)
    if rotation is not None:
        q, k = nn.turn(g, q, k, rotation, config, i)
    return q, k, v


def head_layer_norms(
    g: GraphBuilder, q: Value, k: Value, config: ModelConfig, i: int
) -> tuple[Value, Value]:
    """Layer norm over each head of q and of k, each with weights of its own, where there are."""

    def normed(x: Value, name: str, n_heads: int) -> Value:
        if not g.has(f"{name}.weight"):
            return x
        weights = g.values(f"{name}.weight", (n_heads, config.head_dim)).reshape(-1)
        bare = f"{name}.bare"
        x = head_layer_norm(g, x, n_heads=n_heads, eps=layer_eps(config), name=bare)
        return column_scale(g, x, weights, name=name)

    return (
        normed(q, f"blk.{i}.attn_q_norm", config.num_attention_heads[i]),
        normed(k, f"blk.{i}.attn_k_norm", config.num_key_value_heads[i]),
    )


def in_turn(
    g: GraphBuilder, x: Value, config: ModelConfig, norm: Norm, attention: Block, network: Block
) -> Value:
    """All layers: x + attention(norm(x)), then x + network(norm(x)): [T, n].

    The blocks get normalized rows and the number of the layer.
    """
    for i in range(config.num_hidden_layers):
        h = attention(norm(x, f"blk.{i}.attn_norm"), i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")
        h = network(norm(x, f"blk.{i}.ffn_norm"), i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    return x


def between_norms(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, attention: Block, network: Block
) -> Value:
    """A layer with norms on both sides of its blocks: x + norm(block(norm(x))), twice: [T, n]."""
    h = attention(nn.norm(g, x, config, f"blk.{i}.attn_norm"), i)
    x = _behind_norm(g, x, h, config, i, "attn_post_norm", "post_attention_norm", "ffn_inp")
    h = network(nn.norm(g, x, config, f"blk.{i}.ffn_norm"), i)
    return _behind_norm(g, x, h, config, i, "ffn_post_norm", "post_ffw_norm", "l_out")


def before_norms(
    g: GraphBuilder, x: Value, config: ModelConfig, i: int, attention: Block, network: Block
) -> Value:
    """A layer with norms only behind its blocks: x + norm(block(x)), twice: [T, n]."""
    h = attention(x, i)
    x = _behind_norm(g, x, h, config, i, "attn_post_norm", "post_attention_norm", "ffn_inp")
    h = network(x, i)
    return _behind_norm(g, x, h, config, i, "ffn_post_norm", "post_ffw_norm", "l_out")


def _behind_norm(
    g: GraphBuilder, x: Value, h: Value, config: ModelConfig, i: int,
    name: str, tensor: str, end: str,
) -> Value:  # fmt: skip
    """x + norm(h), the norm's tensor having another name than its value."""
    h = nn.norm(g, h, config, f"blk.{i}.{name}", f"blk.{i}.{tensor}")
    return g.add(x, h, name=f"blk.{i}.{end}")


def side_by_side(g: GraphBuilder, x: Value, attention: Value, network: Value, i: int) -> Value:
    """The end of a layer whose two blocks start from the same rows: their sum and x."""
    both = g.add(attention, network, name=f"blk.{i}.branches")
    return g.add(x, both, name=f"blk.{i}.l_out")


def logits(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    norm: Norm,
    *,
    factor: float = 1.0,
    bias: str = "",
) -> None:
    """Final norm, output matrix, bias or factor: [O, vocab_size]."""
    x = norm(g.select_outputs(x, name="output_rows"), "output_norm")
    is_last = factor == 1.0 and not bias
    x = blocks.output(g, x, config, name="output" if is_last else "output.matmul")
    if bias:
        g.add_bias(x, bias, name="output")
    elif factor != 1.0:
        g.scale(x, factor, name="output")


def gpt(
    g: GraphBuilder,
    config: ModelConfig,
    x: Value,
    *,
    rotation: Rotation | None = None,
    act: str = "gelu",
    max_alibi_bias: float = 0.0,
) -> None:
    """Layers and logits of a model like GPT-2: layer norms, biases, a network without gate."""

    def norm(x: Value, name: str) -> Value:
        return layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = turned_qkv(g, x, config, rotation, i)
        return nn.attend(g, *heads, config, i, bias=True, max_alibi_bias=max_alibi_bias)

    def network(x: Value, i: int) -> Value:
        return blocks.plain_mlp(g, x, config, i, act=act)

    x = in_turn(g, x, config, norm, attention, network)
    logits(g, x, config, norm)


def llama(
    g: GraphBuilder,
    config: ModelConfig,
    x: Value,
    *,
    rotation: Rotation | None = None,
    norm: Norm | None = None,
    act: str = "silu",
    attention_bias: bool = False,
    **rules: Any,
) -> None:
    """Layers and logits of a model like Llama; `rules` are those of the attention's word.

    `norm` is an RMS norm with weights unless given.
    """

    def rms_norm(x: Value, name: str) -> Value:
        return nn.norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = turned_qkv(g, x, config, rotation, i)
        return nn.attend(g, *heads, config, i, bias=attention_bias, **rules)

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i, act=act)

    norm = norm or rms_norm
    x = in_turn(g, x, config, norm, attention, network)
    logits(g, x, config, norm)
