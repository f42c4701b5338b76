"""Attention to a window of keys, and to compressed keys of what is before.

One compressed key stands for every `ratio` positions; rows attend to all of them, or, where the
ratio is small, to those that an index chooses. Keys are values too. In the cache a compressed key
stands at the last of its positions, beside that position's own key.

Source: DeepSeek-AI, "DeepSeek-V4", 2026.
"""

from dataclasses import dataclass, replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import RopeScaling, Rotation, rotation
from jitllm.llm.graph.words.compress import compress, rope_behind
from jitllm.llm.graph.words.heads import head_matmul, join_heads
from jitllm.llm.graph.words.sparse import index_positions, list_positions, sparse_attention
from jitllm.llm.models import _nn as nn

OVERLAP_RATIO = 4  # layers of this ratio have an index, and keys made of twice as many positions
RATIOS = (0, OVERLAP_RATIO, 128)


@dataclass(frozen=True)
class Layer:
    """What attention of one layer needs: its ratio (0: window only), rotation and window."""

    ratio: int
    turn: Rotation
    window: int

    @property
    def back(self) -> Rotation:
        """The opposite rotation."""
        return replace(self.turn, frequencies=-self.turn.frequencies)


def layers_of(config: ModelConfig) -> tuple[Layer, ...]:
    """Return what the metadata say of each layer; `ModelFormatError` if it cannot be."""
    meta, n = config.metadata, config.num_hidden_layers
    ratios = meta.per_layer("attention.compress_ratios", int, n)
    if any(ratio not in RATIOS for ratio in ratios):
        raise ModelFormatError(
            f"key '{config.architecture}.attention.compress_ratios': expected values among "
            f"{RATIOS}, got {ratios}"
        )
    base = meta.get("attention.compress_rope_freq_base", float)
    stretched = rotation("norm", config.rotary_dim, base, config.rope_scaling)
    plain = rotation("norm", config.rotary_dim, config.rope_theta, RopeScaling("none"))
    turns = replace(plain, magnitude=1.0), replace(stretched, magnitude=1.0)
    return tuple(Layer(r, turns[r > 0], config.sliding_window) for r in ratios)


def attend(g: GraphBuilder, x: Value, config: ModelConfig, layer: Layer, i: int) -> Value:
    """Attention with its output matrices: [T, n]."""
    blk, heads, size = f"blk.{i}.", config.num_attention_heads[i], config.head_dim
    meta, eps = config.metadata, config.rms_norm_eps
    rank = meta.get("attention.q_lora_rank", int)
    latent = nn.linear(g, x, blk + "attn_q_a", rank, bias=False)
    latent = nn.rms_norm(g, latent, config, blk + "attn_q_a_norm")
    q = nn.linear(g, latent, blk + "attn_q_b", heads * size, bias=False, as_name=blk + "attn_q")
    q = g.rms_norm(q, "", eps=eps, group=size, name=blk + "attn_q_norm")
    q = rope_behind(g, q, layer.turn, n_heads=heads, behind=0, name=blk + "attn_q_rope")
    kv = nn.linear(g, x, blk + "attn_kv", size, bias=False)
    kv = nn.rms_norm(g, kv, config, blk + "attn_kv_norm", blk + "attn_kv_a_norm")
    kv = rope_behind(g, kv, layer.turn, n_heads=1, behind=0, name=blk + "attn_k_rope")

    sinks, name = blk + "attn_sinks.weight", blk + "kqv"
    if not layer.ratio:
        z = g.attention(
            q, kv, kv, n_heads=heads, n_kv_heads=1, scale=size**-0.5, window=layer.window,
            sinks=sinks, name=name,
        )  # fmt: skip
    else:
        z = _with_compressed(g, x, latent, q, kv, config, layer, i)
    z = rope_behind(g, z, layer.back, n_heads=heads, behind=0, name=blk + "kqv_out")
    groups = meta.get("attention.output_group_count", int)
    rank = meta.get("attention.output_lora_rank", int)
    name = blk + "attn_output_a"
    z = head_matmul(g, z, f"{name}.weight", n_heads=groups, width=rank, name=name)
    name = blk + "attn_output_b"
    return nn.linear(g, z, name, config.hidden_size, bias=False, as_name=blk + "attn_out")


def _with_compressed(
    g: GraphBuilder, x: Value, latent: Value, q: Value, kv: Value, config: ModelConfig,
    layer: Layer, i: int,
) -> Value:  # fmt: skip
    """Attention to the keys of the window and to compressed keys: [T, H * D]."""
    blk, size, ratio = f"blk.{i}.", config.head_dim, layer.ratio
    key = _compressed(g, x, config, layer, blk + "attn_compressor", size)
    near = min(layer.window, g.n_ctx)
    window = list_positions(g, x, most=near, window=layer.window, name=blk + "window")
    top_k = config.metadata.get("attention.indexer.top_k", int)
    n_ends = max(1, g.n_ctx // ratio)
    if ratio == OVERLAP_RATIO and n_ends > top_k:
        ends = _choose(g, x, latent, config, layer, i, top_k)
    else:
        ends = list_positions(g, x, most=n_ends, stride=ratio, name=blk + "compressed")
    return sparse_attention(
        g, q, join_heads(g, kv, key, n_heads=1, name=blk + "attn_k"), None,
        join_heads(g, window, ends, n_heads=1, name=blk + "attn_positions"),
        n_heads=config.num_attention_heads[i], n_kv_heads=2, scale=size**-0.5, v_head_dim=size,
        sinks=blk + "attn_sinks.weight", lists=(window.width, ends.width), name=blk + "kqv",
    )  # fmt: skip


def _compressed(
    g: GraphBuilder, x: Value, config: ModelConfig, layer: Layer, name: str, size: int
) -> Value:
    """Normalized compressed keys, turned by the first of their positions: [T, size]."""
    overlap = layer.ratio == OVERLAP_RATIO
    width = size * (2 if overlap else 1)
    values = nn.linear(g, x, f"{name}_kv", width, bias=False)
    scores = nn.linear(g, x, f"{name}_gate", width, bias=False)
    y = compress(
        g, values, scores, ratio=layer.ratio, overlap=overlap, name=name,
        ape=g.values(f"{name}_ape.weight", (layer.ratio, width)),
    )  # fmt: skip
    y = nn.rms_norm(g, y, config, f"{name}_norm")
    return rope_behind(
        g, y, layer.turn, n_heads=1, behind=layer.ratio - 1, name=f"{name}_rope"
    )  # fmt: skip


def _choose(
    g: GraphBuilder, x: Value, latent: Value, config: ModelConfig, layer: Layer, i: int, top_k: int
) -> Value:
    """The last positions of the compressed keys that rows attend to: [T, top_k]."""
    meta, name = config.metadata, f"blk.{i}.indexer"
    n_heads = meta.get("attention.indexer.head_count", int)
    size = meta.get("attention.indexer.key_length", int)
    q = nn.linear(
        g, latent, f"{name}.attn_q_b", n_heads * size, bias=False, as_name=f"{name}.q"
    )  # fmt: skip
    q = rope_behind(g, q, layer.turn, n_heads=n_heads, behind=0, name=f"{name}.q_rope")
    k = _compressed(g, x, config, layer, f"blk.{i}.indexer_compressor", size)
    w = nn.linear(g, x, f"{name}.proj", n_heads, bias=False)
    return index_positions(
        g, q, k, w, n_heads=n_heads, top_k=top_k, scale=(size * n_heads) ** -0.5,
        stride=layer.ratio, name=f"{name}.top_k",
    )  # fmt: skip
