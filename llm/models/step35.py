"""Step 3.5 and 3.7: "step35". Source: StepFun, "Step 3.5 Flash", 2026."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation, rotation
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._mlp import clamped, network

WINDOW_THETA = 10000.0
LIMIT = "swiglu_limit"


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows, half-turned heads without one, gates of heads, bounded experts."""
    stack.decoder(g, config, *_blocks(g, config))
    nextn.reads_sums(g, config)


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config), normed=False)


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    windows = attn.windows_of(config, 0)
    whole = _whole_rotation(g, config)
    local = ropes.window_rotation(config, "neox", theta=WINDOW_THETA, scaled=False)

    def attention(x: Value, i: int) -> Value:
        q, k, v = attn.qkv(g, x, config, i)
        q, k = (
            _normed(g, y, config, f"blk.{i}.attn_{part}_norm") for y, part in ((q, "q"), (k, "k"))
        )
        q, k = attn.rope(g, q, k, local if windows[i] else whole, config, i)
        z = attn.attention(g, q, k, v, config, i, window=windows[i])
        if not g.has(f"blk.{i}.attn_gate.weight"):
            return attn.output(g, z, config, i)
        width = config.num_attention_heads[i]
        return attn.gated_output(g, z, x, config, i, width=width)

    def feed_forward(x: Value, i: int) -> Value:
        blk, unit = f"blk.{i}.", clamped(config, "swiglu_clamp_shexp", i, LIMIT)
        if not g.has(blk + "ffn_gate_inp.weight"):
            n_ff = config.intermediate_size[i]
            return network(g, x, blk + "ffn_", "", n_ff, unit=unit, name=blk + "ffn_out")
        expert = clamped(config, "swiglu_clamp_exp", i, LIMIT)
        routing = moe.routing_of(g, config, i, "sigmoid")
        return moe.mixture(g, x, config, i, routing, unit=expert, shared_unit=unit)

    return stack.Blocks(attention, feed_forward)


def _normed(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """x, each head normalized if the file has such a norm: [T, width]."""
    if not g.has(f"{name}.weight"):
        return x
    eps, group = config.rms_norm_eps, config.head_dim
    return g.rms_norm(x, f"{name}.weight", eps=eps, group=group, name=name)


def _whole_rotation(g: GraphBuilder, config: ModelConfig) -> Rotation:
    """Rotation of layers without a window: of half the columns, with what factors there are.

    A file has factors for as many columns as turn in any layer; the first ones count.
    """
    n_rot, scaling = config.rotary_dim // 2, config.rope_scaling
    name = "rope_freqs.weight"
    if scaling.type == "longrope":
        is_long = g.n_ctx > scaling.original_max_position_embeddings
        name = f"rope_factors_{'long' if is_long else 'short'}.weight"
    factors = g.values(name, (-1,))[: n_rot // 2] if g.has(name) else None
    return rotation("neox", n_rot, config.rope_theta, scaling, factors)
