"""MiniMax M3: "minimax-m3"."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.sparse import index_blocks, sparse_attention
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._mlp import Unit

UNIT = Unit("swiglu_oai", (7.0, 1.702))


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: attention that in most layers reads the blocks that an index chooses."""
    turn = ropes.rope_of(g, config, "neox")
    meta = config.metadata
    n_dense = meta.get("leading_dense_block_count", int, 0)
    chosen = meta.get("attention.indexer.top_k", int) * meta.get(
        "attention.indexer.block_size", int
    )

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = attn.head_rms_norms(g, q, k, config, i)
        q, k = attn.rope(g, q, k, turn, config, i)
        if i < n_dense or g.n_ctx <= chosen:  # else the index would choose everything
            return attn.attend(g, q, k, v, config, i)
        n_kv = config.num_key_value_heads[i]
        z = sparse_attention(
            g, q, k, v, _choose(g, x, config, turn, i), n_heads=config.num_attention_heads[i],
            n_kv_heads=n_kv, scale=config.head_dim**-0.5, choices=n_kv, name=f"blk.{i}.kqv_out",
        )  # fmt: skip
        names = f"blk.{i}.attn_output", f"blk.{i}.attn_out"
        return nn.linear(g, z, names[0], config.hidden_size, bias=False, as_name=names[1])

    def feed_forward(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i, unit=UNIT)

    stack.decoder(g, config, attention, feed_forward)


def _choose(g: GraphBuilder, x: Value, config: ModelConfig, turn: Rotation, i: int) -> Value:
    """The positions that each key head's queries read: [T, G * most]."""
    meta, name = config.metadata, f"blk.{i}.indexer"
    n_heads = meta.get("attention.indexer.head_count", int)
    size = meta.get("attention.indexer.key_length", int)
    if n_heads != config.num_key_value_heads[i]:
        raise ModelFormatError(
            f"key '{config.architecture}.attention.indexer.head_count': expected one for each of "
            f"{config.num_key_value_heads[i]} key heads, got {n_heads}"
        )
    parts = []
    for part, heads in (("q", n_heads), ("k", 1)):
        y = g.matmul(x, f"{name}.{part}_proj.weight", width=heads * size, name=f"{name}.{part}")
        norm = f"{name}.{part}_norm"
        y = g.rms_norm(y, f"{norm}.weight", eps=config.rms_norm_eps, group=size, name=norm)
        parts.append(g.rope(y, turn, n_heads=heads, name=f"{name}.{part}_rope"))
    return index_blocks(
        g, parts[0], parts[1], n_heads=n_heads, name=f"{name}.top_k",
        top_k=meta.get("attention.indexer.top_k", int),
        block=meta.get("attention.indexer.block_size", int),
        local=meta.get("attention.indexer.local_blocks", int),
    )  # fmt: skip
