"""Qwen 4, experimental: "qwen4exp".

A token has several residual streams. Before every block they are normalized, gated and averaged;
behind it, its result is added to each, weighted by the streams. One layer adds embeddings of
n-grams.

Source: Qwen Team, "Qwen4-Exp", 2026; Zhu et al., "Hyper-Connections", 2024.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ContextLengthExceeded, ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.heads import join_heads
from jitllm.llm.graph.words.ngram import ngram_embed, signed_root_dot
from jitllm.llm.graph.words.ssm import causal_conv, column_scale
from jitllm.llm.models import _delta as delta
from jitllm.llm.models import _layers as nn
from jitllm.llm.models import _qwen35 as qwen35
from jitllm.llm.models._sections import interleaved, sections_of

MAX_ROWS = 1 << 31  # of the table of n-grams


@dataclass(frozen=True)
class Streams:
    """The residual streams of a model: `n`, and the columns of their gate's middle `rank`."""

    n: int
    rank: int
    eps: float

    def repeat(self, g: GraphBuilder, x: Value, name: str) -> Value:
        """The same rows for every stream, side by side: [rows, n * width]."""
        y = x
        for c in range(1, self.n):
            y = join_heads(g, y, x, n_heads=1, name=name if c == self.n - 1 else f"{name}.{c}")
        return y

    def norm(self, g: GraphBuilder, x: Value, tensor: str, name: str) -> Value:
        """RMS norm of each stream, times weights for all columns (of any shape)."""
        shape = tuple(g.tensors[tensor].shape) if g.has(tensor) else ()
        fits = int(np.prod(shape)) == x.width
        weights = g.values(tensor, shape if fits else (self.n, x.width // self.n)).reshape(-1)
        y = g.rms_norm(x, "", eps=self.eps, group=x.width // self.n, name=f"{name}.rms")
        return column_scale(g, y, weights, name=name)

    def mix(self, g: GraphBuilder, streams: Value, prefix: str) -> tuple[Value, Value]:
        """Return the mean of the gated streams [rows, n], and the normalized streams."""
        normed = self.norm(g, streams, f"{prefix}_norm.weight", f"{prefix}_norm")
        low = g.matmul(normed, f"{prefix}_down.weight", width=self.rank, name=f"{prefix}_down")
        low = g.scale(low, 1 / self.n, name=f"{prefix}_down.scaled")
        low = g.activation(low, act="silu", name=f"{prefix}_act")
        gate = g.matmul(low, f"{prefix}_up.weight", width=streams.width, name=f"{prefix}_up")
        opened = gated(g, normed, gate, name=f"{prefix}_gated")
        size = streams.width // self.n
        total = g.columns(opened, 0, size, name=f"{prefix}_gated.0")
        for c in range(1, self.n):
            part = g.columns(opened, c * size, (c + 1) * size, name=f"{prefix}_gated.{c}")
            total = g.add(total, part, name=f"{prefix}_sum.{c}")
        return g.scale(total, 1 / self.n, name=f"{prefix}_mixed"), normed

    def around(
        self, g: GraphBuilder, streams: Value, prefix: str, block: Callable[[Value], Value]
    ) -> Value:
        """Return the streams with what `block` makes of their mean added: same shape."""
        x, normed = self.mix(g, streams, prefix)
        inject = g.matmul(normed, f"{prefix}_inject.weight", width=self.n, name=f"{prefix}_inject")
        inject = g.scale(inject, 1 / self.n, name=f"{prefix}_inject.scaled")
        y = self.repeat(g, block(x), f"{prefix}_repeated")
        y = g.scale(gated(g, y, inject, name=f"{prefix}_out"), 2.0, name=f"{prefix}_out.scaled")
        return g.add(streams, y, name=f"{prefix}_streams")


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta nets, every fourth layer attention with an output gate, experts."""
    sizes, streams = delta.DeltaNet.from_config(config), _streams(config)
    rotation = interleaved(nn.rope_of(g, config, "neox"), sections_of(config))
    _check_context(g, config)
    with_ngrams = _ngram_layer(config)

    x = streams.repeat(g, nn.embeddings(g, config), "streams")
    for i, is_recurrent in enumerate(delta.recurrent_layers(config)):
        if i == with_ngrams:
            x = _add_ngrams(g, x, config, streams, i)

        def mixer(h: Value, i: int = i, is_recurrent: bool = is_recurrent) -> Value:
            if is_recurrent:
                return qwen35.delta_layer(g, h, config, sizes, i, act="sigmoid")
            return delta.gated_attention(g, h, config, rotation, i, bias=False)

        def network(h: Value, i: int = i) -> Value:
            return nn.moe(g, h, config, i)

        x = streams.around(g, x, f"blk.{i}.hc_attn", mixer)
        x = streams.around(g, x, f"blk.{i}.hc_ffn", network)
    x = g.select_outputs(x, name="output_rows")
    x, _ = streams.mix(g, x, "output_hc")
    weight = "output" if g.has("output.weight") else "token_embd"
    g.matmul(x, f"{weight}.weight", width=config.vocab_size, name="output")


def _streams(config: ModelConfig) -> Streams:
    meta = config.metadata
    n, rank = meta.get("hyper_connection.count", int), meta.get("hyper_connection.low_rank", int)
    if n < 2 or rank < 1:
        raise ModelFormatError(
            f"keys '{config.architecture}.hyper_connection.count' and '.low_rank': expected 2 or "
            f"more and 1 or more, got {n} and {rank}"
        )
    return Streams(n, rank, config.rms_norm_eps)


def _check_context(g: GraphBuilder, config: ModelConfig) -> None:
    """Refuse contexts in which attention would read fewer positions than there are."""
    top_k = config.metadata.get("attention.indexer.top_k", int)
    ratios = config.metadata.per_layer(
        "attention.compress_ratios", int, config.num_hidden_layers, 0
    )
    if any(ratios) and g.n_ctx > top_k:
        raise ContextLengthExceeded(
            f"expected a context of at most {top_k} tokens, all of which this model's attention "
            f"reads; got {g.n_ctx}; load the model with a smaller n_ctx"
        )


def _ngram_layer(config: ModelConfig) -> int:
    """The layer that adds embeddings of n-grams, -1 for none."""
    if f"{config.architecture}.ple.layers" not in config.metadata.values:
        return -1
    return config.metadata.per_layer("ple.layers", int, 1)[0]


def _add_ngrams(
    g: GraphBuilder, streams: Value, config: ModelConfig, sizes: Streams, i: int
) -> Value:
    """Add embeddings of the last tokens, gated by how they agree with each stream."""
    meta, blk = config.metadata, f"blk.{i}."
    longest = meta.get("ple.ngram_size", int)
    heads = (longest - 1) * meta.get("ple.heads_per_ngram", int)
    if longest < 2 or heads < 1:
        raise ModelFormatError(
            f"keys '{config.architecture}.ple.ngram_size' and '.heads_per_ngram': expected 2 or "
            f"more and 1 or more, got {longest} and {heads} hashes"
        )
    embedded = _embedded(g, config, longest, heads, blk + "ple_embd")
    key = g.matmul(embedded, blk + "ple_key.weight", width=streams.width, name=blk + "ple_key")
    value = g.matmul(
        embedded, blk + "ple_value.weight", width=config.hidden_size, name=blk + "ple_value"
    )
    key = sizes.norm(g, key, blk + "ple_norm_key.weight", blk + "ple_norm_key")
    query = sizes.norm(g, streams, blk + "ple_norm_query.weight", blk + "ple_norm_query")
    gate = signed_root_dot(
        g, key, query, n_groups=sizes.n, scale=config.hidden_size**-0.5, name=blk + "ple_gate"
    )
    added = gated(g, sizes.repeat(g, value, blk + "ple_values"), gate, name=blk + "ple_gated")
    normed = sizes.norm(g, added, blk + "ple_norm_conv.weight", blk + "ple_norm_conv")
    smooth = causal_conv(
        g, normed, blk + "ple_conv1d.weight", taps=meta.get("ple.conv_kernel", int), act="silu",
        dilation=longest, name=blk + "ple_conv",
    )  # fmt: skip
    added = g.add(added, smooth, name=blk + "ple_out")
    return g.add(streams, added, name=blk + "ple_streams")


def _embedded(g: GraphBuilder, config: ModelConfig, longest: int, heads: int, name: str) -> Value:
    """Embeddings of the last 2 to `longest` tokens: [T, heads * width]."""
    meta = config.metadata
    sizes = meta.per_layer("ple.head_vocab_sizes", int, heads)
    offsets = meta.per_layer("ple.head_offsets", int, heads)
    end = meta.get("ple.eos_token_id", int)
    if min(sizes) < 1 or min(offsets) < 0 or max(*sizes, *offsets, end) >= MAX_ROWS or end < 0:
        raise ModelFormatError(
            f"keys '{config.architecture}.ple.head_vocab_sizes', '.head_offsets' and "
            f"'.eos_token_id': expected numbers from 1, 0 and 0 to below {MAX_ROWS}, got {sizes}, "
            f"{offsets} and {end}"
        )
    multipliers = meta.per_layer("ple.layer_multipliers", int, longest)
    return ngram_embed(
        g,
        "per_layer_token_embd.weight",
        multipliers=np.array([m % (1 << 64) for m in multipliers], np.uint64),
        sizes=np.array(sizes, np.int64),
        offsets=np.array(offsets, np.int64),
        end=end,
        width=meta.get("embedding_length_per_layer_input", int),
        name=name,
    )
