"""Layers of the RWKV family: a mix with the token before, then states that decay column by column.

Every function adds nodes for layer i under the prefix "blk.{i}.". In a sequence
the token before the first is a row of zeros.
Sources: Peng et al., "Eagle and Finch", 2024, and "RWKV-7 Goose", 2025.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.head_layer_norm import head_layer_norm
from jitllm.llm.graph.words.heads import columns
from jitllm.llm.graph.words.ssm import column_scale, squeezed
from jitllm.llm.graph.words.wkv import lerp, previous
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack

STATE_NORM_EPS = 64e-5


def n_heads(config: ModelConfig) -> int:
    """Heads of the states; ModelFormatError unless they divide the columns."""
    size = config.metadata.get("wkv.head_size", int)
    if size < 1 or config.hidden_size % size:
        raise ModelFormatError(
            f"key '{config.architecture}.wkv.head_size': expected a divisor of "
            f"{config.hidden_size}, got {size}"
        )
    return config.hidden_size // size


def layers(g: GraphBuilder, config: ModelConfig, time_mix: stack.Block) -> None:
    """Add embeddings, the layers and logits, with layer norms.

    `time_mix` gets normalized rows [T, n] and the number of the layer, and returns rows [T, n].
    """
    x = nn.biased_layer_norm(g, nn.embeddings(g, config), config, "token_embd_norm")
    every = config.metadata.get("rescale_every_n_layers", int, 0)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.biased_layer_norm(g, x, config, blk + "attn_norm")
        x = g.add(x, time_mix(h, i), name=blk + "ffn_inp")
        h = nn.biased_layer_norm(g, x, config, blk + "attn_norm_2")
        h = channel_mix(g, h, config, i)
        halved = every > 0 and (i + 1) % every == 0
        x = g.add(x, h, name=blk + ("l_out.whole" if halved else "l_out"))
        if halved:
            x = g.scale(x, 0.5, name=blk + "l_out")
    x = nn.biased_layer_norm(g, g.select_outputs(x, name="output_rows"), config, "output_norm")
    lm_head.output(g, x, config)


def qwen_layers(g: GraphBuilder, config: ModelConfig, time_mix: stack.Block) -> None:
    """Add embeddings, the layers and logits of a Qwen with `time_mix` in place of attention."""
    parts = stack.Blocks(time_mix, lambda x, i: mlp.gated_mlp(g, x, config, i))
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.layer(g, x, config, parts, i)
    bias = g.optional("output_norm.bias")
    name = "output_norm.scaled" if bias else "output_norm"
    x = nn.rms_norm(g, g.select_outputs(x, name="output_rows"), config, name, "output_norm")
    if bias:
        x = g.add_bias(x, bias, name="output_norm")
    lm_head.output(g, x, config)


def channel_mix(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """value(relu(key(xk))^2), times sigmoid(receptance(xr)) if there is such a matrix: [T, n].

    xk and xr are mixes of normalized x with the row before.
    """
    blk, n = f"blk.{i}.channel_mix_", config.hidden_size
    has_gate = g.has(blk + "receptance.weight")
    names = "kr" if has_gate else "k"
    factors = np.stack([squeezed(g, f"{blk}lerp_{name}.weight", n) for name in names])
    k, *r = mixes(g, x, previous(g, x, name=blk + "previous"), names, factors, None, blk)
    k = nn.linear(g, k, blk + "key", config.intermediate_size[i], bias=False)
    k = g.activation(k, act="relu_squared", name=blk + "key_squared")
    y = nn.linear(g, k, blk + "value", n, bias=False)
    if has_gate:
        gate = nn.linear(g, r[0], blk + "receptance", n, bias=False)
        y = g.glu(gate, y, act="sigmoid", name=blk + "out")
    return y


def mixes(
    g: GraphBuilder,
    x: Value,
    before: Value,
    names: str,
    factors: Floats,
    shifts: Value | None,
    prefix: str,
) -> list[Value]:
    """Mixes of x with the rows before, one for each letter of `names`: each [T, n].

    As for `lerp`, `factors` [len(names), n] and `shifts` [T, len(names) * n] say how much each
    takes from the row before.
    """
    n = x.width
    mixed = lerp(g, x, before, factors, shifts, name=prefix + "mixed")
    if len(names) == 1:
        return [mixed]
    return [
        columns(g, mixed, j * n, (j + 1) * n, name=f"{prefix}x{name}")
        for j, name in enumerate(names)
    ]


def state_norm(g: GraphBuilder, y: Value, heads: int, i: int) -> Value:
    """Layer norm of every head, with weights and biases of all columns: [T, n]."""
    name = f"blk.{i}.time_mix_ln"
    y = head_layer_norm(g, y, n_heads=heads, eps=STATE_NORM_EPS, name=f"{name}.bare")
    y = column_scale(g, y, g.values(f"{name}.weight", (y.width,)), name=f"{name}.scaled")
    return g.add_bias(y, f"{name}.bias", name=name)
