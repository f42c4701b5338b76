"""Qwen 3 Next: "qwen3next". Source: Qwen Team, "Qwen3-Next", 2025."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.heads import head_columns, join_heads
from jitllm.llm.models import _delta as delta
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta nets, every fourth layer attention with an output gate, experts."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    sizes, rotation = delta.DeltaNet.from_config(config), ropes.rope_of(g, config, "neox")
    return delta.blocks(
        config,
        lambda x, i: _delta_layer(g, x, config, sizes, i),
        lambda x, i: delta.gated_attention(g, x, config, rotation, i),
        lambda x, i: moe.normalized_mixture(g, x, config, i),
    )


def _delta_layer(
    g: GraphBuilder, x: Value, config: ModelConfig, sizes: delta.DeltaNet, i: int
) -> Value:
    blk, groups, per_group = f"blk.{i}.", sizes.n_key_heads, sizes.n_heads // sizes.n_key_heads
    qkv, z = _qkv_and_gate(g, x, sizes, i)
    both = g.matmul(x, blk + "ssm_ba.weight", width=2 * sizes.n_heads, name=blk + "ssm_ba")
    beta = head_columns(g, both, 0, per_group, n_heads=groups, name=blk + "ssm_beta")
    alpha = head_columns(g, both, per_group, 2 * per_group, n_heads=groups, name=blk + "ssm_alpha")
    y = delta.delta_attention(g, qkv, beta, alpha, z, config, sizes, i, tiled=False)
    return g.matmul(y, blk + "ssm_out.weight", width=config.hidden_size, name=blk + "ssm_out")


def _qkv_and_gate(g: GraphBuilder, x: Value, sizes: delta.DeltaNet, i: int) -> tuple[Value, Value]:
    """Queries, keys and values side by side, and the output's gate.

    Early files have one matrix "ssm_in", which gives these four for one key head after the other.
    """
    blk, width = f"blk.{i}.", 2 * sizes.key_width + sizes.value_width
    if g.has(blk + "attn_qkv.weight"):
        qkv = g.matmul(x, blk + "attn_qkv.weight", width=width, name=blk + "attn_qkv")
        name = blk + "attn_gate"
        return qkv, g.matmul(x, f"{name}.weight", width=sizes.value_width, name=name)
    groups, size, name = sizes.n_key_heads, sizes.head_dim, blk + "ssm_in"
    values = sizes.value_width // groups
    mixed = g.matmul(x, f"{name}.weight", width=width + sizes.value_width, name=name)
    bounds = {"q": (0, size), "k": (size, 2 * size), "v": (2 * size, 2 * size + values)}
    q, k, v = (
        head_columns(g, mixed, *bounds[part], n_heads=groups, name=f"{name}_{part}")
        for part in bounds
    )
    end = 2 * (size + values)
    z = head_columns(g, mixed, end - values, end, n_heads=groups, name=f"{name}_z")
    qk = join_heads(g, q, k, n_heads=1, name=f"{name}_qk")
    return join_heads(g, qk, v, n_heads=1, name=f"{name}_qkv"), z
