"""Command R7B and A: "cohere2". Source: transformers, `Cohere2ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import UnsupportedArchitecture

ARCHITECTURE = "cohere2"
CLASSES = ("Cohere2ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 8192, "layer_norm_eps": 1e-5,
    "logit_scale": 0.0625, "sliding_window": 4096, "rotary_pct": 1.0,
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary.

    Raises
    ------
    UnsupportedArchitecture
        If a bias is not zero: the architecture has none.
    """
    config = source.config
    n_heads = config.size("num_attention_heads")
    config.complete({"num_key_value_heads": n_heads, "head_dim": decoder.head_dim(config)})
    decoder.keys(config, target)
    size = config.size("hidden_size") // n_heads
    target.key("uint32", "rope.dimension_count", int(config.need("rotary_pct") * size))
    target.key("string", "rope.scaling.type", "none")
    target.key("float32", "logit_scale", config.need("logit_scale"))
    target.key("uint32", "attention.sliding_window", config.size("sliding_window"))
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    for name, weight in source.weights():
        if not name.endswith(".bias"):
            target.tensor(decoder.NAMES(name), weight)
        elif weight.floats().any():
            raise UnsupportedArchitecture(f"tensor {name!r}: expected zeros, got other values")
    vocabulary.gpt2(source, target)
