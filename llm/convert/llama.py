"""Llama 1 to 3 and what is built like it: "llama". Source: transformers, `LlamaForCausalLM`."""

from collections.abc import Iterable

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "llama"
CLASSES = ("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel")
DEFAULTS = {"rope_theta": 10000.0, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    source.config.complete({"head_dim": decoder.head_dim(source.config)})
    keys(source.config, target)
    tensors(source.config, target, source.weights())
    vocabulary.llama(source, target)


def keys(config: Config, target: Target) -> None:
    """Put down the keys of models whose rope turns neighbours."""
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.keys(config, target)
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    target.key("uint32", "rope.dimension_count", decoder.head_dim(config))


def tensors(
    config: Config,
    target: Target,
    weights: Iterable[tuple[str, Weight]],
    names: decoder.Names = decoder.NAMES,
) -> None:
    """Put down the tensors, with what rope turns together side by side."""
    factors = decoder.llama3_factors(config)
    if factors is not None:
        target.tensor("rope_freqs.weight", factors)
    n_heads = {
        "q_proj": config.size("num_attention_heads"),
        "k_proj": config.size("num_key_value_heads"),
    }
    for name, weight in weights:
        part = name.rpartition(".")[0].rpartition(".")[2]
        if part in n_heads:
            weight = decoder.interleaved(weight, n_heads[part])
        target.tensor(names(name), weight)
