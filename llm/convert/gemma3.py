"""Gemma 3: "gemma3". Source: transformers, `Gemma3ForCausalLM`."""

from typing import Any

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "gemma3"
CLASSES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
DEFAULTS = {
    "max_position_embeddings": 131072, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 256, "rms_norm_eps": 1e-6, "sliding_window": 4096, "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
}  # fmt: skip
_NAMES = decoder.Names(
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
    config.values["rope_scaling"] = _rope(config)
    decoder.keys(config, target)
    cap = config.get("final_logit_softcapping")
    target.key("float32", "final_logit_softcapping", cap or None)
    if config.get("sliding_window_pattern", "_sliding_window_pattern") != 1:
        target.key("uint32", "attention.sliding_window", config.size("sliding_window"))
    _vocabulary(source, target)
    n_vocab = config.size("vocab_size")
    for name, weight in source.weights():
        if name.endswith("norm.weight"):
            weight = weight.computed(lambda w: w + 1)  # there, 1 is added when the norm is used
        if name.endswith("embed_tokens.weight"):
            weight = weight.moved(lambda w: w[:n_vocab])  # rows that no token has
        if name != "lm_head.weight":
            target.tensor(_NAMES(name), weight)


def _rope(config: Config) -> dict[str, Any]:
    """Return what turns layers without a window, and those with one."""
    found = dict(config.get("rope_parameters") or {})
    whole = {**(found.get("full_attention") or {}), **(config.get("rope_scaling") or {})}
    whole.setdefault("rope_theta", config.get("rope_theta"))
    whole.setdefault("rope_type", "default")
    local = dict(found.get("sliding_attention") or {})
    local.setdefault("rope_theta", config.get("rope_local_base_freq"))
    return {"full_attention": whole, "sliding_attention": local}


def _vocabulary(source: Source, target: Target) -> None:
    if vocabulary.sentencepiece(source, target):
        target.key("bool", "tokenizer.ggml.add_space_prefix", False)
    else:
        vocabulary.gpt2(source, target)
