"""GLM 4 of 2025: "glm4". Source: transformers, `Glm4ForCausalLM`."""

from collections.abc import Mapping

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "glm4"
CLASSES = ("Glm4ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 131072, "num_key_value_heads": 2,
    "head_dim": 128, "rms_norm_eps": 1.5625e-07, "partial_rotary_factor": 0.5,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "mlp.gate_up_proj": "ffn_up",
        "post_mlp_layernorm": "post_ffw_norm",
        "post_self_attn_layernorm": "post_attention_norm",
    }
)
_PARTS = {
    "eos": "<|endoftext|>", "eot": "<|user|>", "unknown": "<|endoftext|>", "bos": "<|endoftext|>",
}  # fmt: skip


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    decoder.keys(config, target)
    share = decoder.rope_parameters(config)["partial_rotary_factor"]
    target.key("uint32", "rope.dimension_count", int(decoder.head_dim(config) * share))
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
    write_parts(source, target, _PARTS)


def write_parts(source: Source, target: Target, parts: Mapping[str, str]) -> None:
    """Put down ids of tokens with a part to play, where the tokenizer's files have not told them.

    Parameters
    ----------
    source, target : Source, Target
    parts : mapping of str to str
        From the part, such as "bos", to the token.
    """
    added = source.json("tokenizer.json").get("added_tokens", [])
    ids = {token["content"]: token["id"] for token in added}
    for part, text in parts.items():
        key = f"tokenizer.ggml.{part}_token_id"
        if key not in target.values:
            target.key("uint32", key, ids.get(text))
