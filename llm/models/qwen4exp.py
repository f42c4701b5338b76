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
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.compress import compress, rope_behind
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.heads import join_heads
from jitllm.llm.graph.words.ngram import ngram_embed, signed_root_dot
from jitllm.llm.graph.words.sparse import index_positions, whole_blocks
from jitllm.llm.graph.words.ssm import causal_conv, column_scale
from jitllm.llm.models import _delta as delta
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _qwen35 as qwen35
from jitllm.llm.models import _rope as ropes
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
    rotation = interleaved(ropes.rope_of(g, config, "neox"), sections_of(config))
    with_ngrams = _ngram_layer(config)

    x = streams.repeat(g, nn.embeddings(g, config), "streams")
    for i, is_recurrent in enumerate(delta.recurrent_layers(config)):
        if i == with_ngrams:
            x = _add_ngrams(g, x, config, streams, i)

        def mixer(h: Value, i: int = i, is_recurrent: bool = is_recurrent) -> Value:
            if is_recurrent:
                return qwen35.delta_layer(g, h, config, sizes, i, act="sigmoid")
            chosen = _choose(g, h, config, rotation, i)
            return delta.gated_attention(g, h, config, rotation, i, bias=False, chosen=chosen)

        def network(h: Value, i: int = i) -> Value:
            return moe.normalized_mixture(g, h, config, i)

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


def _choose(g: GraphBuilder, x: Value, config: ModelConfig, turn: Rotation, i: int) -> Value | None:
    """The positions that rows of layer i attend to, None for all: [T, most].

    An index scores whole blocks of `ratio` positions by the mean of their keys. The best ones are
    chosen, and what is behind the last whole block.
    """
    meta, name = config.metadata, f"blk.{i}.indexer"
    ratios = meta.per_layer("attention.compress_ratios", int, config.num_hidden_layers, 0)
    ratio, top_k = ratios[i], meta.get("attention.indexer.top_k", int)
    if not ratio or g.n_ctx <= top_k:
        return None
    n_heads = meta.get("attention.indexer.head_count", int)
    size = meta.get("attention.indexer.key_length", int)
    if ratio < 0 or top_k < ratio or n_heads < 1 or size < config.rotary_dim:
        raise ModelFormatError(
            f"{config.architecture}: expected attention.compress_ratios from 0 to "
            f"attention.indexer.top_k, attention.indexer.head_count above 0 and .key_length of at "
            f"least {config.rotary_dim}, got {ratio}, {top_k}, {n_heads} and {size}"
        )
    q = g.matmul(x, f"{name}.q_proj.weight", width=n_heads * size, name=f"{name}.q")
    q = g.rms_norm(
        q, f"{name}.q_norm.weight", eps=config.rms_norm_eps, group=size, name=f"{name}.q_norm"
    )
    q = g.rope(q, turn, n_heads=n_heads, name=f"{name}.q_rope")
    k = g.matmul(x, f"{name}.k_proj.weight", width=size, name=f"{name}.k")
    alike = g.scale(k, 0.0, name=f"{name}.k_alike")  # equal scores: the mean
    ape = np.zeros((ratio, size), np.float32)
    k = compress(g, k, alike, ratio=ratio, ape=ape, overlap=False, name=f"{name}.k_mean")
    k = nn.norm(g, k, config, f"{name}.k_norm")
    k = rope_behind(
        g, k, turn, n_heads=1, behind=ratio - 1, first=True, name=f"{name}.k_rope"
    )  # fmt: skip
    ends = index_positions(
        g, q, k, None, n_heads=n_heads, top_k=top_k // ratio, scale=1.0, stride=ratio,
        name=f"{name}.top_k",
    )  # fmt: skip
    return whole_blocks(g, ends, block=ratio, name=f"{name}.positions")


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
