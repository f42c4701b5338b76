"""Pieces of encoders: models without logits, whose tokens all see each other.

An encoder's graph ends with `select_outputs`: the hidden states of the wanted rows.
"""

from collections.abc import Callable
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.add_row import add_row
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack

Mlp = Callable[[GraphBuilder, Value, ModelConfig, int], Value]


def embeddings(g: GraphBuilder, config: ModelConfig, *, positions: bool = False) -> Value:
    """Embeddings of tokens, of the first kind of segment and perhaps of positions, normed."""
    x = nn.embeddings(g, config)
    if g.has("token_types.weight"):
        kinds = g.values("token_types.weight", (-1, config.hidden_size))
        x = add_row(g, x, kinds[0].copy(), name="inp_types")
    if positions:
        x = nn.with_positions(g, x, config)
    return nn.layer_norm(g, x, config, "token_embd_norm")


def attend(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    i: int,
    rotation: Rotation | None = None,
    *,
    bias: bool = False,
    norms: bool = False,
    **rules: Any,
) -> Value:
    """Attention among all tokens of a text, with its output matrix: [T, n].

    `bias`: use the matrix's bias if there is one. `norms`: layer norms over all columns of q and
    of k, where the file has them. `rules` are those of the word `attention`.
    """
    q, k, v = attn.qkv(g, x, config, i)
    if norms and g.has(f"blk.{i}.attn_q_norm.weight"):
        q = nn.layer_norm(g, q, config, f"blk.{i}.attn_q_norm")
    if norms and g.has(f"blk.{i}.attn_k_norm.weight"):
        k = nn.layer_norm(g, k, config, f"blk.{i}.attn_k_norm")
    if rotation is not None:
        q, k = attn.rope(g, q, k, rotation, config, i)
    return attn.attend(g, q, k, v, config, i, bias=bias, causal=False, cache=False, **rules)


def bert(
    g: GraphBuilder,
    config: ModelConfig,
    x: Value,
    mlp: Mlp,
    *,
    rotation: Rotation | None = None,
    max_alibi_bias: float = 0.0,
    norms: bool = False,
) -> None:
    """All layers of a BERT, whose norms follow the sums, and the end of the graph."""
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = attend(g, x, config, i, rotation, bias=True, norms=norms, max_alibi_bias=max_alibi_bias)
        h = g.add(h, x, name=blk + "attn_sum")
        if norms and g.has(blk + "attn_norm_2.weight"):
            h = _norm(g, h, config, blk + "attn_output_norm", blk + "attn_normed")
            h = g.add(h, x, name=blk + "attn_sum_2")
            h = _norm(g, h, config, blk + "attn_norm_2", blk + "ffn_inp")
        else:
            h = _norm(g, h, config, blk + "attn_output_norm", blk + "ffn_inp")
        y = g.add(mlp(g, h, config, i), h, name=blk + "ffn_sum")
        x = _norm(g, y, config, blk + "layer_output_norm", blk + "l_out")
    g.select_outputs(x, name="hidden_states")


def pre_norm(
    g: GraphBuilder, config: ModelConfig, rotation: Rotation, mlp: Mlp, last_norm: str
) -> None:
    """Embeddings, all layers with RMS norms before their blocks, and the end of the graph.

    `last_norm` is the tensor of the norm behind all layers.
    """

    def attention(x: Value, i: int) -> Value:
        return attend(g, x, config, i, rotation)

    x = nn.embeddings(g, config)
    parts = stack.Blocks(attention, lambda x, i: mlp(g, x, config, i))
    for i in range(config.num_hidden_layers):
        x = stack.layer(g, x, config, parts, i)
    x = nn.rms_norm(g, x, config, "output_norm", last_norm)
    g.select_outputs(x, name="hidden_states")


def _norm(g: GraphBuilder, x: Value, config: ModelConfig, tensor: str, name: str) -> Value:
    eps = nn.layer_eps(config)
    return g.layer_norm(x, f"{tensor}.weight", g.optional(f"{tensor}.bias"), eps=eps, name=name)


def gelu_mlp(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """The network of BERT: down(gelu(up(x))) with biases where there are."""
    return mlp.plain_mlp(g, x, config, i, act="gelu")
