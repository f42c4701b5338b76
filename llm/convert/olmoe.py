"""OLMoE, a mixture of experts: "olmoe". Source: transformers, `OlmoeForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "olmoe"
CLASSES = ("OlmoeForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "num_experts": 64,
    "num_experts_per_tok": 8,
}  # fmt: skip
_NAMES = decoder.Names(decoder.LAYER | experts.LAYER)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    config.values["rms_norm_eps"] = 1e-5  # of the released models; older files lack it
    decoder.keys(config, target)
    weights = experts.apart(source.weights())
    decoder.tensors(target, experts.merged(weights, config.size("num_experts")), _NAMES)
    vocabulary.gpt2(source, target)
