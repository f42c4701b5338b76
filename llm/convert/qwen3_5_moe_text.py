"""Qwen 3.5 with experts, without eyes: "qwen35moe". Source: `Qwen3_5MoeForCausalLM`."""

from jitllm.llm.convert import qwen3_5_moe

ARCHITECTURE = qwen3_5_moe.ARCHITECTURE
CLASSES = qwen3_5_moe.CLASSES
DEFAULTS = qwen3_5_moe.DEFAULTS

convert = qwen3_5_moe.convert
