"""Orders of layers: what comes before, between and behind attention and network; whole decoders."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn

Block = Callable[[Value, int], Value]


class Blocks(NamedTuple):
    """What layers are made of.

    Attributes
    ----------
    attention, network : callable
        Get normalized rows [T, n] and the number of the layer, and return rows [T, n].
    ffn_norm : str
        The tensor of the second norm.
    """

    attention: Block
    network: Block
    ffn_norm: str = "ffn_norm"


def n_layers_of(config: ModelConfig) -> int:
    """Layers of the model itself: without those that predict further tokens."""
    return config.num_hidden_layers - config.metadata.get("nextn_predict_layers", int, 0)


def layer(g: GraphBuilder, x: Value, config: ModelConfig, blocks: Blocks, i: int) -> Value:
    """x + attention(norm(x)), then x + network(norm(x)): [T, n]."""
    h = blocks.attention(nn.rms_norm(g, x, config, f"blk.{i}.attn_norm"), i)
    x = g.add(x, h, name=f"blk.{i}.ffn_inp")
    h = blocks.network(
        nn.rms_norm(g, x, config, f"blk.{i}.ffn_norm", f"blk.{i}.{blocks.ffn_norm}"), i
    )
    return g.add(x, h, name=f"blk.{i}.l_out")


def decoder(
    g: GraphBuilder,
    config: ModelConfig,
    attention: Block,
    network: Block,
    ffn_norm: str = "ffn_norm",
) -> None:
    """Add embeddings, the layers of the model itself and logits; see `Blocks`."""
    blocks, x = Blocks(attention, network, ffn_norm), nn.embeddings(g, config)
    for i in range(n_layers_of(config)):
        x = layer(g, x, config, blocks, i)
    lm_head.logits(g, x, config)


def in_turn(
    g: GraphBuilder, x: Value, config: ModelConfig, norm: nn.Norm, attention: Block, network: Block
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
    h = attention(nn.rms_norm(g, x, config, f"blk.{i}.attn_norm"), i)
    x = _behind_norm(g, x, h, config, i, "attn_post_norm", "post_attention_norm", "ffn_inp")
    h = network(nn.rms_norm(g, x, config, f"blk.{i}.ffn_norm"), i)
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
    h = nn.rms_norm(g, h, config, f"blk.{i}.{name}", f"blk.{i}.{tensor}")
    return g.add(x, h, name=f"blk.{i}.{end}")


def side_by_side(g: GraphBuilder, x: Value, attention: Value, network: Value, i: int) -> Value:
    """The end of a layer whose two blocks start from the same rows: their sum and x."""
    both = g.add(attention, network, name=f"blk.{i}.branches")
    return g.add(x, both, name=f"blk.{i}.l_out")


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
        return nn.layer_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = attn.roped_qkv(g, x, config, rotation, i)
        return attn.attend(g, *heads, config, i, bias=True, max_alibi_bias=max_alibi_bias)

    def network(x: Value, i: int) -> Value:
        return mlp.plain_mlp(g, x, config, i, act=act)

    x = in_turn(g, x, config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)


def llama(
    g: GraphBuilder,
    config: ModelConfig,
    x: Value,
    *,
    rotation: Rotation | None = None,
    norm: nn.Norm | None = None,
    act: str = "silu",
    attention_bias: bool = False,
    **rules: Any,
) -> None:
    """Layers and logits of a model like Llama; `rules` are those of the attention's word.

    `norm` is an RMS norm with weights unless given.
    """

    def rms_norm(x: Value, name: str) -> Value:
        return nn.rms_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = attn.roped_qkv(g, x, config, rotation, i)
        return attn.attend(g, *heads, config, i, bias=attention_bias, **rules)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i, act=act)

    norm = norm or rms_norm
    x = in_turn(g, x, config, norm, attention, network)
    lm_head.normed_logits(g, x, config, norm)
