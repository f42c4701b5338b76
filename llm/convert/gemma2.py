"""Gemma 2: "gemma2". Source: transformers, `Gemma2ForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import gemma
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "gemma2"
CLASSES = ("Gemma2ForCausalLM",)
DEFAULTS = {
    "max_position_embeddings": 8192, "num_key_value_heads": 4, "head_dim": 256,
    "rms_norm_eps": 1e-6, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    "sliding_window": 4096,
}  # fmt: skip
NAMES = decoder.Names(
    decoder.LAYER
    | {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    decoder.sizes(config, target)
    target.key("float32", "attn_logit_softcapping", config.need("attn_logit_softcapping"))
    target.key("float32", "final_logit_softcapping", config.need("final_logit_softcapping"))
    target.key("uint32", "attention.sliding_window", config.size("sliding_window"))
    gemma.tensors(source, target, NAMES)
    gemma.write_vocabulary(source, target)
