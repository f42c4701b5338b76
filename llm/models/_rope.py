"""Rotary position embeddings: the rotation that a file asks for."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import RopeScaling, Rotation, rotation


def rope_of(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation that the metadata and the tensor "rope_freqs.weight" ask for."""
    name = "rope_freqs.weight"
    factors = g.values(name, (config.rotary_dim // 2,)) if g.has(name) else None
    return rotation(kind, config.rotary_dim, config.rope_theta, config.rope_scaling, factors)


def long_rope_of(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation with the factors for short or for long contexts, by the context of this run.

    Source: Ding et al., "LongRoPE", 2024.
    """
    scaling = config.rope_scaling
    is_long = g.n_ctx > scaling.original_max_position_embeddings
    name = f"rope_factors_{'long' if is_long else 'short'}.weight"
    factors = g.values(name, (config.rotary_dim // 2,)) if g.has(name) else None
    return rotation(kind, config.rotary_dim, config.rope_theta, scaling, factors)


def any_rope_of(g: GraphBuilder, config: ModelConfig, kind: str) -> Rotation:
    """The rotation with whatever factors of frequencies the file has."""
    if config.rope_scaling.type == "longrope":
        return long_rope_of(g, config, kind)
    return rope_of(g, config, kind)


def plain_rope(config: ModelConfig, kind: str) -> Rotation:
    """The rotation of models that use no factors of frequencies, even if the file has some."""
    return rotation(kind, config.rotary_dim, config.rope_theta, config.rope_scaling)


def window_rotation(
    config: ModelConfig, kind: str, *, theta: float | None = None, scaled: bool = True
) -> Rotation:
    """Rotation of layers with a window, which may have a base of their own.

    `theta` is their base if the metadata do not say, by default that of the other layers; unless
    `scaled`, they are not stretched.
    """
    theta = config.rope_theta if theta is None else theta
    theta = config.metadata.get("rope.freq_base_swa", float, theta)
    scaling = config.rope_scaling
    if not scaled:
        scaling = RopeScaling(attention_factor=scaling.attention_factor)
    n_rot = config.metadata.get("rope.dimension_count_swa", int, config.rotary_dim)
    return rotation(kind, n_rot, theta, scaling)


def has_sections(config: ModelConfig) -> bool:
    """Whether the metadata split the columns that turn between several kinds of positions.

    These are alike for text, so such a model has common rope, its pairs half of the columns apart.
    Source: Wang et al., "Qwen2-VL", 2024.
    """
    sections = config.metadata.values.get(f"{config.architecture}.rope.dimension_sections")
    return sections is not None and len(sections) > 1 and sections[0] > 0 and sections[1] > 0
