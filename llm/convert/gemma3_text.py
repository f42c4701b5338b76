"""Gemma 3 without eyes: "gemma3". Source: transformers, `Gemma3ForCausalLM`."""

from jitllm.llm.convert import gemma3

ARCHITECTURE = gemma3.ARCHITECTURE
CLASSES = gemma3.CLASSES
DEFAULTS = gemma3.DEFAULTS

convert = gemma3.convert
