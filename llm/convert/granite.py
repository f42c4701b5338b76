"""Granite 3: "granite", a Llama with four factors. Source: transformers, `GraniteForCausalLM`."""

from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import llama
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "granite"
CLASSES = ("GraniteForCausalLM",)
DEFAULTS = llama.DEFAULTS | {
    "attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
    "logits_scaling": 1.0,
}  # fmt: skip
_FACTORS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    keys(source.config, target)
    llama.tensors(source.config, target, source.weights())
    vocabulary.llama(source, target)


def keys(config: Config, target: Target) -> None:
    """Put down the keys of a Llama, and the factors."""
    config.values.pop("head_dim", None)  # transformers has no use for it either
    llama.keys(config, target)
    for key, name in _FACTORS.items():
        target.key("float32", key, config.get(name) or None)
