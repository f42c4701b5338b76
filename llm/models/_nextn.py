"""Blocks that predict further tokens, "nextn" in tensor names: what goes into and out of them.

Block b of a model with n layers is layer n + b of its file. At position p it reads the embedding of
token p and the hidden row of position p - 1, which the model made, or for later tokens a block. Its
logits are those of token p + 1, one further than the model itself gives with that hidden row. It
has a cache of its own, whose cells it writes for all positions of a text.

Source: DeepSeek-AI, "DeepSeek-V3", 2024, section 2.2; Gloeckle et al., "Better & Faster Large
Language Models via Multi-token Prediction", 2024.
"""

from collections.abc import Callable

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.heads import join_heads
from jitllm.llm.graph.words.input_rows import input_rows
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack

Norm = Callable[[Value, str, str], Value]


def head(
    g: GraphBuilder, config: ModelConfig, block: int, blocks: stack.Blocks, *, normed: bool = True
) -> None:
    """Add the nodes of a block made like the model's layers; see `ends` for `normed`."""
    i = layer_of(g, config, block)

    def norm(x: Value, name: str, tensor: str) -> Value:
        return nn.rms_norm(g, x, config, name, tensor)

    x = stack.layer(g, begins(g, config, i, norm), config, blocks, i)
    lm_head.output(g, ends(g, x, i, norm, normed=normed), config, block=i)


def reads_sums(g: GraphBuilder, config: ModelConfig) -> None:
    """Let blocks read what the model's last layer gave, before the final norm."""
    if g.with_hidden:
        g.hidden = f"blk.{stack.n_layers_of(config) - 1}.l_out"


def layer_of(g: GraphBuilder, config: ModelConfig, block: int) -> int:
    """Return the layer that is block `block`; `ModelFormatError` if the file lacks it."""
    i = stack.n_layers_of(config) + block
    if i >= config.num_hidden_layers or not g.has(f"blk.{i}.nextn.eh_proj.weight"):
        raise ModelFormatError(
            f"expected a tensor 'blk.{i}.nextn.eh_proj.weight', got none: this file has no block "
            f"{block} that predicts further tokens; use one that was made with it"
        )
    return i


def begins(g: GraphBuilder, config: ModelConfig, i: int, norm: Norm, n_streams: int = 1) -> Value:
    """What the layer of a block reads, of the token's embedding and the hidden row: [T, S * n].

    The hidden row has S residual streams, each of which gets the embedding.
    """
    prefix, n = f"blk.{i}.nextn.", config.hidden_size
    table = g.optional(f"{prefix}embed_tokens.weight") or "token_embd.weight"
    embedding = g.embed(table, width=n, name=f"{prefix}embed_tokens")
    embedding = norm(embedding, f"{prefix}enorm", f"{prefix}enorm")
    hidden = input_rows(g, n_streams * n, name=f"{prefix}hidden")

    def stream(c: int, end: str) -> Value:
        part = g.columns(hidden, c * n, (c + 1) * n, name=f"{prefix}hidden{end}") if end else hidden
        part = norm(part, f"{prefix}hnorm{end}", f"{prefix}hnorm")
        both = join_heads(g, embedding, part, n_heads=1, name=f"{prefix}eh{end}")
        name = f"{prefix}eh_proj"
        return nn.linear(g, both, name, n, bias=False, as_name=f"{name}{end}")

    x = stream(0, ".0" if n_streams > 1 else "")
    for c in range(1, n_streams):
        x = join_heads(g, x, stream(c, f".{c}"), n_heads=1, name=f"{prefix}streams.{c}")
    return x


def ends(g: GraphBuilder, x: Value, i: int, norm: Norm, *, normed: bool = True) -> Value:
    """What the output matrix reads of a block's rows x [T, n]: [O, n].

    The block's own hidden rows are those behind the norm, or (`normed` false) those before it.
    """
    name = f"blk.{i}.nextn.shared_head_norm"
    if not normed:
        g.hidden = x.name
        return norm(g.select_outputs(x, name="output_rows"), name, last_norm(g, i))
    x = norm(x, name, last_norm(g, i))
    g.hidden = x.name
    return g.select_outputs(x, name="output_rows")


def last_norm(g: GraphBuilder, i: int) -> str:
    """Return the tensor of a block's last norm: its own, or that of the model."""
    own = f"blk.{i}.nextn.shared_head_norm", f"blk.{i}.layer_output_norm"
    return next((tensor for tensor in own if g.has(f"{tensor}.weight")), "output_norm")
