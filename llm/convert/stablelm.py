"""StableLM 2: "stablelm". Source: transformers, `StableLmForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "stablelm"
CLASSES = ("StableLmForCausalLM", "StableLMEpochForCausalLM")
DEFAULTS = {
    "max_position_embeddings": 4096, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25,
    "use_parallel_residual": False,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    config.complete({"layer_norm_eps": config.get("norm_eps") or 1e-5})
    decoder.sizes(config, target)
    share = decoder.rope_parameters(config)["partial_rotary_factor"]
    size = config.size("hidden_size") // config.size("num_attention_heads")
    target.key("uint32", "rope.dimension_count", int(share * size))
    target.key("bool", "use_parallel_residual", config.need("use_parallel_residual"))
    decoder.tensors(target, source.weights())
    vocabulary.gpt2(source, target)
