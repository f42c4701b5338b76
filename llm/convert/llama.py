"""Llama 1 to 3 and what is built like it: "llama". Source: transformers, `LlamaForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "llama"
DEFAULTS = {"rope_theta": 10000.0, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    derive(source.config)
    keys(source.config, target)
    tensors(source, target)
    vocabulary.llama(source, target)


def derive(config: Config) -> None:
    """Give values that transformers derives from others to what is absent."""
    n_heads = config.size("num_attention_heads")
    config.complete({"num_key_value_heads": n_heads, "head_dim": decoder.head_dim(config)})


def keys(config: Config, target: Target) -> None:
    """Put down the keys of architectures that turn neighbours."""
    decoder.keys(config, target)
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    target.key("uint32", "rope.dimension_count", decoder.head_dim(config))


def tensors(source: Source, target: Target, names: decoder.Names = decoder.Names()) -> None:
    """Put down the tensors, with pairs of rope next to each other."""
    config = source.config
    factors = decoder.llama3_factors(config)
    if factors is not None:
        target.tensor("rope_freqs.weight", factors)
    n_heads = config.size("num_attention_heads")
    heads = {"q_proj": n_heads, "k_proj": config.get("num_key_value_heads") or n_heads}
    for name, weight in source.weights():
        part = name.rpartition(".")[0].rpartition(".")[2]
        if part in heads:
            weight = decoder.interleaved(weight, heads[part])
        target.tensor(names(name), weight)
