"""DeepSeek 4: "deepseek4". Source: DeepSeek-AI, "DeepSeek-V4", 2026.

Layers see a window of keys, and, of what is before, one compressed key for every `ratio` positions:
all of them, or, where the ratio is small, those that an index chooses. Keys are values too. In the
cache a compressed key stands at the last of its positions, beside that position's own key.
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
from jitllm.llm.graph.words.token_table import token_table
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack
from jitllm.llm.models import _streams

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


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes."""
    n_layers, streams = _n_layers(g, config), _streams_of(config)
    _streams.layers(g, config, streams, *_blocks(g, config), n_layers=n_layers)
    nextn.reads_sums(g, config)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens; hidden rows are all streams."""
    i, streams = nextn.layer_of(g, config, block), _streams_of(config)

    def norm(x: Value, name: str, tensor: str) -> Value:
        return nn.norm(g, x, config, name, tensor)

    x = nextn.begins(g, config, i, norm, n_streams=streams.n)
    x = _streams.layer(g, x, config, streams, _blocks(g, config), i)
    g.hidden = x.name
    x = _streams.read_outputs(g, x, config, streams)
    x = norm(x, f"blk.{i}.nextn.shared_head_norm", nextn.last_norm(g, i))
    lm_head.output(g, x, config, block=i)


def _streams_of(config: ModelConfig) -> _streams.Streams:
    meta = config.metadata
    return _streams.Streams(
        n=meta.get("hyper_connection.count", int),
        eps=meta.get("hyper_connection.epsilon", float),
        magnitude=2.0,
        iterations=meta.get("hyper_connection.sinkhorn_iterations", int),
    )


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    meta, layers = config.metadata, _layers_of(config)
    n_hashed = meta.get("hash_layer_count", int, 0)
    shared_key = "swiglu_clamp_shexp"
    if f"{config.architecture}.{shared_key}" not in meta.values:
        shared_key = "swiglu_clamp_exp"

    def feed_forward(x: Value, i: int) -> Value:
        chosen = _experts_of_tokens(g, config, i) if i < n_hashed else None
        return moe.feed_forward(
            g, x, config, i, unit=mlp.clamped(config, shared_key, i),
            expert_unit=mlp.clamped(config, "swiglu_clamp_exp", i),
            default_gating="sqrt_softplus", chosen=chosen,
        )  # fmt: skip

    return stack.Blocks(lambda x, i: _attention(g, x, config, layers[i], i), feed_forward)


def _n_layers(g: GraphBuilder, config: ModelConfig) -> int:
    """Layers of the model itself: all, if the file lacks those that predict further tokens."""
    n = stack.n_layers_of(config)
    return n if g.has(f"blk.{n}.nextn.eh_proj.weight") else config.num_hidden_layers


def _experts_of_tokens(g: GraphBuilder, config: ModelConfig, i: int) -> Value:
    """The experts of layers in which the token alone decides: [T, k]."""
    name = f"blk.{i}.ffn_gate_tid2eid"
    shape = (config.vocab_size, config.num_experts_per_tok)
    table = g.values(f"{name}.weight", shape)
    if not ((table >= 0) & (table < config.num_experts)).all():
        raise ModelFormatError(
            f"tensor '{name}.weight': expected numbers of {config.num_experts} experts, got "
            f"{table.min()} to {table.max()}"
        )
    return token_table(g, table, name=name)


def _layers_of(config: ModelConfig) -> tuple[Layer, ...]:
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


def _attention(g: GraphBuilder, x: Value, config: ModelConfig, layer: Layer, i: int) -> Value:
    """Attention with its output matrices: [T, n]."""
    blk, heads, size = f"blk.{i}.", config.num_attention_heads[i], config.head_dim
    meta, eps = config.metadata, config.rms_norm_eps
    rank = meta.get("attention.q_lora_rank", int)
    latent = nn.linear(g, x, blk + "attn_q_a", rank, bias=False)
    latent = nn.norm(g, latent, config, blk + "attn_q_a_norm")
    q = nn.linear(g, latent, blk + "attn_q_b", heads * size, bias=False, as_name=blk + "attn_q")
    q = g.rms_norm(q, "", eps=eps, group=size, name=blk + "attn_q_norm")
    q = rope_behind(g, q, layer.turn, n_heads=heads, behind=0, name=blk + "attn_q_rope")
    kv = nn.linear(g, x, blk + "attn_kv", size, bias=False)
    kv = nn.norm(g, kv, config, blk + "attn_kv_norm", blk + "attn_kv_a_norm")
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
    y = nn.norm(g, y, config, f"{name}_norm")
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
