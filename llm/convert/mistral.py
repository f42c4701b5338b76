"""Mistral 7B and its like: a "llama". Source: transformers, `MistralForCausalLM`."""

from jitllm.llm.convert import llama

ARCHITECTURE = llama.ARCHITECTURE
CLASSES = ("MistralForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
    "num_key_value_heads": 8,
}  # fmt: skip

convert = llama.convert
