"""Qwen 3.5 without eyes: "qwen35". Source: transformers, `Qwen3_5ForCausalLM`."""

from jitllm.llm.convert import qwen3_5

ARCHITECTURE = qwen3_5.ARCHITECTURE
CLASSES = qwen3_5.CLASSES
DEFAULTS = qwen3_5.DEFAULTS

convert = qwen3_5.convert
