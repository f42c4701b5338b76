"""StarCoder 2: "starcoder2". Source: transformers, `Starcoder2ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "starcoder2"
CLASSES = ("Starcoder2ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "num_key_value_heads": 2,
    "norm_epsilon": 1e-5,
}  # fmt: skip
_NAMES = decoder.Names(decoder.LAYER | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"})


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"layer_norm_eps": config.need("norm_epsilon")})
    decoder.keys(config, target)
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
