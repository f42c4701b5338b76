"""Embeddings of n-grams, added to the residual streams of one layer: "ple" in tensor names.

Source: Qwen Team, "Qwen4-Exp", 2026.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.ngram import ngram_embed, signed_root_dot
from jitllm.llm.graph.words.ssm import causal_conv
from jitllm.llm.models._gated_streams import Streams

MAX_ROWS = 1 << 31  # of the table of n-grams


def layer_of(config: ModelConfig) -> int:
    """The layer that adds embeddings of n-grams, -1 for none."""
    if f"{config.architecture}.ple.layers" not in config.metadata.values:
        return -1
    return config.metadata.per_layer("ple.layers", int, 1)[0]


def add(g: GraphBuilder, streams: Value, config: ModelConfig, sizes: Streams, i: int) -> Value:
    """The streams with embeddings of the last tokens, gated by how they agree: same shape."""
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
