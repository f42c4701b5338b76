"""Qwen 3: "qwen3". Source: transformers, `Qwen3ForCausalLM`."""

from jitllm.llm.convert import qwen2

ARCHITECTURE = "qwen3"
CLASSES = ("Qwen3ForCausalLM", "Qwen3Model")
DEFAULTS = qwen2.DEFAULTS | {"head_dim": 128}

convert = qwen2.convert
