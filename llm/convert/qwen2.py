"""Qwen 2 and 2.5: "qwen2". Source: transformers, `Qwen2ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _pooling as pooling
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "qwen2"
CLASSES = ("Qwen2ForCausalLM", "Qwen2Model")
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 32,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    decoder.keys(source.config, target)
    decoder.tensors(target, source.weights())
    pooling.write(source, target)
    vocabulary.sentencepiece_or_gpt2(source, target)
