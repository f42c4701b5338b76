"""MiniCPM 3: "minicpm3". Source: Hu et al., "MiniCPM", 2024; latent attention: "DeepSeek-V2"."""

from dataclasses import dataclass

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.graph.words.heads import head_columns, join_heads
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes

EMBEDDING_SCALE = 12.0
BRANCH_SCALE = 1.4  # by the root of the number of layers
LOGIT_WIDTH = 256  # logits are scaled by this / hidden_size


@dataclass(frozen=True)
class _Latents:
    """Sizes: of the latents of queries and of keys, and of the parts of a head."""

    q_rank: int
    kv_rank: int
    plain: int
    turned: int


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: queries, keys and values made from latents, keys and values kept in full."""
    sizes = _latents(config)
    rotation = ropes.long_rope_of(g, config, "neox")
    branch_scale = BRANCH_SCALE * config.num_hidden_layers**-0.5
    x = g.scale(nn.embeddings(g, config), EMBEDDING_SCALE, name="inp_scaled")
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        q = _queries(g, h, config, sizes, rotation, i)
        k, v = _keys(g, h, config, sizes, rotation, i)
        h = attn.attend(g, q, k, v, config, i)
        h = g.scale(h, branch_scale, name=blk + "attn_out_scaled")
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm")
        h = mlp.gated_mlp(g, h, config, i)
        h = g.scale(h, branch_scale, name=blk + "ffn_out_scaled")
        x = g.add(x, h, name=blk + "l_out")
    y = lm_head.logits(g, x, config, name="output.unscaled")
    g.scale(y, LOGIT_WIDTH / config.hidden_size, name="output")


def _latents(config: ModelConfig) -> _Latents:
    meta, turned = config.metadata, config.rotary_dim
    kv_rank = meta.get("attention.kv_lora_rank", int)
    if kv_rank % 16 or config.num_attention_heads != config.num_key_value_heads:
        raise ModelFormatError(
            f"{config.architecture}: expected attention.kv_lora_rank in steps of 16 and as many "
            f"key heads as query heads, got {kv_rank}, {config.num_key_value_heads} and "
            f"{config.num_attention_heads}"
        )
    return _Latents(
        meta.get("attention.q_lora_rank", int), kv_rank, config.head_dim - turned, turned
    )


def _queries(
    g: GraphBuilder, x: Value, config: ModelConfig, sizes: _Latents, rotation: Rotation, i: int
) -> Value:
    """Queries, of which the last columns of a head turn: [T, H * dk]."""
    name, n_heads = f"blk.{i}.attn_q", config.num_attention_heads[i]
    latent = g.matmul(x, f"{name}_a.weight", name=f"{name}_a", width=sizes.q_rank)
    latent = nn.rms_norm(g, latent, config, f"{name}_a_norm")
    q = g.matmul(latent, f"{name}_b.weight", name=name, width=n_heads * config.head_dim)
    if not sizes.plain:
        return g.rope(q, rotation, n_heads=n_heads, name=f"{name}_rope")
    plain = head_columns(g, q, 0, sizes.plain, n_heads=n_heads, name=f"{name}_nope")
    part = head_columns(g, q, sizes.plain, config.head_dim, n_heads=n_heads, name=f"{name}_pe")
    part = g.rope(part, rotation, n_heads=n_heads, name=f"{name}_pe_rope")
    return join_heads(g, plain, part, n_heads=n_heads, name=f"{name}_rope")


def _keys(
    g: GraphBuilder, x: Value, config: ModelConfig, sizes: _Latents, rotation: Rotation, i: int
) -> tuple[Value, Value]:
    """Keys [T, H * dk], whose turned columns all heads share, and values [T, H * dv]."""
    blk, n_heads, rank = f"blk.{i}.", config.num_attention_heads[i], sizes.kv_rank
    end = sizes.plain + config.v_head_dim
    both = g.matmul(
        x, blk + "attn_kv_a_mqa.weight", name=blk + "attn_kv_a_mqa", width=rank + sizes.turned
    )
    latent = g.columns(both, 0, rank, name=blk + "attn_kv_a")
    latent = nn.rms_norm(g, latent, config, blk + "attn_kv_a_norm")
    kv = g.matmul(latent, blk + "attn_kv_b.weight", name=blk + "attn_kv", width=n_heads * end)
    v = head_columns(g, kv, sizes.plain, end, n_heads=n_heads, name=blk + "attn_v")
    part = g.columns(both, rank, rank + sizes.turned, name=blk + "attn_k_pe")
    part = g.rope(part, rotation, n_heads=1, name=blk + "attn_k_pe_rope")
    if not sizes.plain:
        return _repeated(g, part, n_heads, blk + "attn_k_rope"), v
    plain = head_columns(g, kv, 0, sizes.plain, n_heads=n_heads, name=blk + "attn_k")
    k = join_heads(g, plain, part, n_heads=n_heads, shared=True, name=blk + "attn_k_rope")
    return k, v


def _repeated(g: GraphBuilder, part: Value, n_heads: int, name: str) -> Value:
    """Heads that are all alike: [T, H * width of part]."""
    heads = part
    for h in range(1, n_heads):
        heads = join_heads(g, heads, part, n_heads=1, name=f"{name}.{h}")
    return heads
