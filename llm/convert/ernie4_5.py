"""ERNIE 4.5, dense: "ernie4_5". Source: transformers, `Ernie4_5ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "ernie4_5"
CLASSES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")
DEFAULTS = {
    "rope_theta": 500000.0, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "num_key_value_heads": 2,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"head_dim": decoder.head_dim(config)})
    decoder.keys(config, target)
    decoder.tensors(target, source.weights())
    vocabulary.sentencepiece_or_gpt2(source, target)
    prefix = source.json("tokenizer_config.json").get("add_prefix_space")
    target.key("bool", "tokenizer.ggml.add_space_prefix", prefix)
