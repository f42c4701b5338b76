"""What Qwen 3.5's dense models and its mixtures share: all but their feed-forward networks."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _delta as delta
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._sections import interleaved, sections_of


def blocks(g: GraphBuilder, config: ModelConfig, network: stack.Block) -> stack.Blocks:
    """What the layers of a model with these networks are made of."""
    sizes = delta.DeltaNet.from_config(config)
    rotation = interleaved(ropes.rope_of(g, config, "neox"), sections_of(config))
    return delta.blocks(
        config,
        lambda x, i: delta_layer(g, x, config, sizes, i),
        lambda x, i: delta.gated_attention(g, x, config, rotation, i),
        network,
    )


def delta_layer(
    g: GraphBuilder,
    x: Value,
    config: ModelConfig,
    sizes: delta.DeltaNet,
    i: int,
    *,
    act: str = "silu",
) -> Value:
    """A delta net with its matrices: [T, n]; `act` is that of its output's gate."""
    blk, heads = f"blk.{i}.", sizes.n_heads

    def project(part: str, width: int) -> Value:
        return nn.linear(g, x, blk + part, width, bias=False)

    qkv = project("attn_qkv", 2 * sizes.key_width + sizes.value_width)
    z = project("attn_gate", sizes.value_width)
    beta, alpha = project("ssm_beta", heads), project("ssm_alpha", heads)
    y = delta.delta_attention(g, qkv, beta, alpha, z, config, sizes, i, tiled=True, act=act)
    return nn.linear(g, y, blk + "ssm_out", config.hidden_size, bias=False)
