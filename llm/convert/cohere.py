"""Command R: "command-r". Source: transformers, `CohereForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "command-r"
CLASSES = ("CohereForCausalLM",)
DEFAULTS = {
    "rope_theta": 500000.0, "max_position_embeddings": 8192, "layer_norm_eps": 1e-5,
    "logit_scale": 0.0625,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    length = config.size("model_max_length", "max_position_embeddings")
    config.values["max_position_embeddings"] = length  # of which the first is what it was made for
    decoder.keys(config, target)
    target.key("float32", "logit_scale", config.need("logit_scale"))
    target.key("string", "rope.scaling.type", "none")
    decoder.tensors(target, source.weights())
    vocabulary.gpt2(source, target)
