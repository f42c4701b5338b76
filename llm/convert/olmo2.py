"""OLMo 2: "olmo2". Source: transformers, `Olmo2ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "olmo2"
CLASSES = ("Olmo2ForCausalLM",)
DEFAULTS = {"rope_theta": 10000.0, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.keys(config, target)
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
