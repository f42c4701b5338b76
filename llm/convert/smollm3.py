"""SmolLM 3: "smollm3". Source: transformers, `SmolLM3ForCausalLM`."""

from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import llama
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "smollm3"
CLASSES = ("SmolLM3ForCausalLM",)
DEFAULTS = {
    "rope_theta": 2e6, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 4,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    llama.keys(source.config, target)
    llama.tensors(source.config, target, source.weights())
    vocabulary.llama(source, target)
