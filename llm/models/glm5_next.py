"""GLM 5.3 Flash: "glm5-next". Source: Z.ai, "GLM-5", 2026; Kimi Team, "Kimi Linear", 2025."""

from dataclasses import replace
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import streams as words
from jitllm.llm.graph.words.compress import compress
from jitllm.llm.graph.words.heads import head_matmul
from jitllm.llm.graph.words.sparse import index_positions, sparse_attention, whole_blocks
from jitllm.llm.models import _kda as kda
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._streams import Streams, layer

L2_EPS = 1e-6  # of queries and keys of delta attention, whatever the file says of norms


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: four residual streams, delta attention, some layers latent, experts."""
    streams = Streams.mixed(config)
    _check(config, streams)
    sizes, is_delta = kda.Kda.from_config(config).bounded(config, -1.0), kda.delta_layers(config)
    sizes = replace(sizes, l2_eps=L2_EPS)
    n_layers, key = config.num_hidden_layers, "attention.indexer.types"
    is_full = config.metadata.per_layer(key, bool, n_layers, True)
    chosen: Value | None = None

    def attention(x: Value, i: int) -> Value:
        nonlocal chosen
        if is_delta[i]:
            return kda.attend(g, x, config, sizes, i)
        x, chosen = _latent(g, x, config, chosen if not is_full[i] else None, i)
        return x

    def feed_forward(x: Value, i: int) -> Value:
        unit, expert_unit = mlp.clamped_pair(config, i)
        return moe.feed_forward(
            g, x, config, i, unit=unit, expert_unit=expert_unit, default_gating="sigmoid"
        )

    x = words.new_streams(g, nn.embeddings(g, config), streams.n, name="streams")
    for i in range(len(is_delta)):
        x = layer(g, x, config, streams, stack.Blocks(attention, feed_forward), i)
    x = _mean(g, g.select_outputs(x, name="output_rows"), streams.n)
    x = nn.rms_norm(g, x, config, "output_norm")
    g.matmul(x, "output.weight", width=config.vocab_size, name="output")


def _check(config: ModelConfig, streams: Streams) -> None:
    meta, name = config.metadata, config.architecture
    if not 2 <= streams.n <= words.MAX_STREAMS or streams.iterations < 1:
        raise ModelFormatError(
            f"keys '{name}.hyper_connection.count' and '.sinkhorn_iterations': expected 2 to "
            f"{words.MAX_STREAMS} and 1 or more, got {streams.n} and {streams.iterations}"
        )
    has_tail = meta.get("attention.indexer.kpool_select_tail", bool, True)
    if config.rotary_dim or not has_tail:
        raise ModelFormatError(
            f"keys '{name}.rope.dimension_count' and '.attention.indexer.kpool_select_tail': "
            f"expected 0 and true, got {config.rotary_dim} and {has_tail}"
        )


def _mean(g: GraphBuilder, x: Value, n: int) -> Value:
    size = x.width // n
    total = g.columns(x, 0, size, name="output_streams.0")
    for c in range(1, n):
        part = g.columns(x, c * size, (c + 1) * size, name=f"output_streams.{c}")
        total = g.add(total, part, name=f"output_sum.{c}")
    return g.scale(total, 1 / n, name="output_mean")


def _latent(
    g: GraphBuilder, x: Value, config: ModelConfig, chosen: Value | None, i: int
) -> tuple[Value, Value | None]:
    """Latent attention without rope, with its output matrix: [T, n]; see `_mla`.

    `chosen` are the positions of an earlier layer, None in a layer with an index. The second of
    what is returned are the positions that were read, None for all.
    """
    meta, blk, heads = config.metadata, f"blk.{i}.", config.num_attention_heads[i]
    rank, k_dim = meta.get("attention.kv_lora_rank", int), meta.get("attention.key_length_mla", int)
    latent = g.matmul(
        x, blk + "attn_q_a.weight", width=meta.get("attention.q_lora_rank", int),
        name=blk + "attn_q_a",
    )  # fmt: skip
    latent = nn.rms_norm(g, latent, config, blk + "attn_q_a_norm")
    q = g.matmul(latent, blk + "attn_q_b.weight", width=heads * k_dim, name=blk + "attn_q")
    kv = g.matmul(x, blk + "attn_kv_a_mqa.weight", width=rank, name=blk + "attn_kv_a")
    kv = nn.rms_norm(g, kv, config, blk + "attn_kv_a_norm")
    name = blk + "attn_q_absorbed"
    q = head_matmul(g, q, blk + "attn_k_b.weight", n_heads=heads, width=rank, name=name)
    common: dict[str, Any] = {
        "n_heads": heads, "n_kv_heads": 1, "scale": k_dim**-0.5, "name": blk + "kqv_latent",
    }  # fmt: skip
    if g.n_ctx <= meta.get("attention.indexer.top_k", int):
        z = g.attention(q, kv, kv, **common)
    else:
        chosen = chosen or _choose(g, x, latent, config, i)
        z = sparse_attention(g, q, kv, None, chosen, v_head_dim=rank, **common)
    width = meta.get("attention.value_length_mla", int)
    name = blk + "kqv_out"
    z = head_matmul(g, z, blk + "attn_v_b.weight", n_heads=heads, width=width, name=name)
    name = blk + "attn_output"
    z = g.matmul(z, f"{name}.weight", width=config.hidden_size, name=blk + "attn_out")
    return z, chosen


def _choose(g: GraphBuilder, x: Value, latent: Value, config: ModelConfig, i: int) -> Value:
    """The positions that rows of layer i attend to: [T, most].

    An index scores whole blocks of positions by means of their keys, weighted in each column. The
    best ones are chosen, and what is behind the last whole block.
    """
    meta, name = config.metadata, f"blk.{i}.indexer"
    n_heads = meta.get("attention.indexer.head_count", int)
    size = meta.get("attention.indexer.key_length", int)
    block = meta.get("attention.indexer.kpool", int)
    top_k = meta.get("attention.indexer.top_k", int)
    if min(n_heads, size, block) < 1 or top_k < block:
        raise ModelFormatError(
            f"{config.architecture}: expected attention.indexer.head_count, .key_length and .kpool "
            f"above 0, and .top_k of at least .kpool, got {n_heads}, {size}, {block} and {top_k}"
        )
    q = g.matmul(latent, f"{name}.attn_q_b.weight", width=n_heads * size, name=f"{name}.q")
    k = g.matmul(x, f"{name}.attn_k.weight", width=size, name=f"{name}.k")
    eps, norm = meta.get("attention.layer_norm_epsilon", float, 1e-6), f"{name}.k_norm"
    k = g.layer_norm(k, f"{norm}.weight", f"{norm}.bias", eps=eps, name=norm)
    gates = g.matmul(x, f"{name}_compressor_gate.weight", width=size, name=f"{name}.gates")
    ape = g.values(f"{name}_compressor_ape.weight", (block, size))
    k = compress(g, k, gates, ratio=block, ape=ape, overlap=False, name=f"{name}.k_mean")
    w = g.matmul(x, f"{name}.proj.weight", width=n_heads, name=f"{name}.proj")
    ends = index_positions(
        g, q, k, w, n_heads=n_heads, top_k=top_k // block, scale=(size * n_heads) ** -0.5,
        stride=block, name=f"{name}.top_k",
    )  # fmt: skip
    return whole_blocks(g, ends, block=block, name=f"{name}.positions")
