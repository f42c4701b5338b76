"""Hunyuan 4: "hy_v4"."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.models import _dsa, _streams
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._mlp import clamped


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: latent attention, gated and with sinks, around several residual streams."""
    meta, n = config.metadata, config.num_hidden_layers
    turn = ropes.rope_of(g, config, "norm")
    scale = meta.get("attention.key_length_mla", int) ** -0.5
    latent = mla.Latent.from_config(config, turn=(turn, scale))
    streams = _streams.Streams(
        n=meta.get("hyper_connection.count", int),
        eps=meta.get("hyper_connection.epsilon", float),
        magnitude=meta.get("hyper_connection.magnitude", float),
        post_eps=meta.get("hyper_connection.epsilon", float),
    )
    has_index = meta.get("attention.indexer.top_k", int, 0) > 0 and _dsa.has_choice(g, config)
    is_full = meta.per_layer("attention.indexer.types", bool, n, True)
    if has_index and not is_full[0]:
        raise ModelFormatError(f"{config.architecture}: expected an index in the first layer")
    chosen: Value | None = None

    def attention(x: Value, i: int) -> Value:
        nonlocal chosen
        blk = f"blk.{i}."
        queries = mla.query_latent(g, x, config, latent, i)
        if has_index and is_full[i]:
            chosen = _dsa.choose(
                g, x, queries, config, turn, i, eps=config.rms_norm_eps, rope_last=True
            )
        z = mla.heads(
            g, x, queries, config, latent, i, chosen=chosen, sinks=blk + "attn_sinks.weight"
        )
        gate = g.matmul(x, blk + "attn_gate.weight", width=z.width, name=blk + "attn_gate")
        z = gated(g, z, gate, name=blk + "kqv_gated")
        name = blk + "attn_output.weight"
        return g.matmul(z, name, width=config.hidden_size, name=blk + "attn_out")

    def feed_forward(x: Value, i: int) -> Value:
        unit = clamped(config, "swiglu_clamp_exp", i)
        return moe.feed_forward(g, x, config, i, expert_unit=unit, default_gating="sigmoid")

    _streams.layers(g, config, streams, attention, feed_forward)
