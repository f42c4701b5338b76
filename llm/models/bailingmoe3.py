"""Ling and Ring 3: "bailingmoe3". Source: Inclusion AI, "Ling 3.0", 2026."""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import Rotation
from jitllm.llm.models import _kda as kda
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _stack as stack
from jitllm.llm.models._sections import consecutive, sections_of


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta attention, some layers gated latent attention, experts."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    sizes, is_delta = kda.Kda.from_config(config).bounded(config, 1.0), kda.delta_layers(config)
    if sizes.bound is None or sizes.bound >= 0:
        raise ModelFormatError(
            f"key '{config.architecture}.kda.gate_lower_bound': expected a negative number, got "
            f"{sizes.bound}"
        )
    latent = mla.Latent.from_config(config)
    latent = replace(
        latent, scale=(latent.nope + latent.rope) ** -0.5, rotation=_rotation(config, latent)
    )

    def attention(x: Value, i: int) -> Value:
        if i < len(is_delta) and is_delta[i]:
            return kda.attend(g, x, config, sizes, i)
        return kda.gated_latent(g, x, config, latent, config.num_attention_heads[i], i)

    def feed_forward(x: Value, i: int) -> Value:
        return moe.feed_forward(
            g, x, config, i, default_gating="sigmoid",
            unit=mlp.clamped(config, "swiglu_clamp_shexp", i, "swiglu_limit"),
            expert_unit=mlp.clamped(config, "swiglu_clamp_exp", i, "swiglu_limit"),
        )  # fmt: skip

    return stack.Blocks(attention, feed_forward)


def _rotation(config: ModelConfig, latent: mla.Latent) -> Rotation:
    """The rotation for text: models that also see images have sections, and pair other columns."""
    sections = sections_of(config)
    if not (sections[0] and sections[1]):
        return latent.rotation
    return consecutive(replace(latent.rotation, kind="neox"), sections)
