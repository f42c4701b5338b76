"""Qwen 4, experimental: "qwen4exp".

A token has several residual streams. Before every block they are normalized, gated and averaged;
behind it, its result is added to each, weighted by the streams. One layer adds embeddings of
n-grams.

Source: Qwen Team, "Qwen4-Exp", 2026; Zhu et al., "Hyper-Connections", 2024.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.compress import compress, rope_behind
from jitllm.llm.graph.words.sparse import index_positions, whole_blocks
from jitllm.llm.models import _delta as delta
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _ngrams as ngrams
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _qwen35 as qwen35
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._gated_streams import streams_of
from jitllm.llm.models._sections import interleaved, sections_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta nets, every fourth layer attention with an output gate, experts."""
    sizes, streams = delta.DeltaNet.from_config(config), streams_of(config)
    rotation = interleaved(ropes.rope_of(g, config, "neox"), sections_of(config))
    with_ngrams = ngrams.layer_of(config)

    x = streams.repeat(g, nn.embeddings(g, config), "streams")
    for i, is_recurrent in enumerate(delta.recurrent_layers(config)):
        if i == with_ngrams:
            x = ngrams.add(g, x, config, streams, i)

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
    k = nn.rms_norm(g, k, config, f"{name}.k_norm")
    k = rope_behind(
        g, k, turn, n_heads=1, behind=ratio - 1, first=True, name=f"{name}.k_rope"
    )  # fmt: skip
    ends = index_positions(
        g, q, k, None, n_heads=n_heads, top_k=top_k // ratio, scale=1.0, stride=ratio,
        name=f"{name}.top_k",
    )  # fmt: skip
    return whole_blocks(g, ends, block=ratio, name=f"{name}.positions")
