"""LFM 2, convolutions and attention: "lfm2". Source: transformers, `Lfm2ForCausalLM`."""

from collections.abc import Iterator

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "lfm2"
CLASSES = ("Lfm2ForCausalLM", "LFM2ForCausalLM")
DEFAULTS = {
    "rope_theta": 1e6, "max_position_embeddings": 128000, "norm_eps": 1e-5, "conv_L_cache": 3,
    "num_key_value_heads": 8, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
}  # fmt: skip
LAYER = decoder.LAYER | {
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "ffn_norm": "ffn_norm",
    "operator_norm": "attn_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
}
WHOLE = decoder.WHOLE | {"model.embedding_norm": "token_embd_norm"}
_NAMES = decoder.Names(LAYER, WHOLE)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    keys(source.config, target)
    target.key("uint32", "feed_forward_length", _inner(source.config))
    decoder.tensors(target, flat(source), _NAMES)
    vocabulary.gpt2(source, target)


def keys(config: Config, target: Target) -> None:
    """Put down sizes and constants; layers that are convolutions have no heads."""
    n_kv = config.size("num_key_value_heads")
    kinds = config.get("layer_types") or _kinds(config)
    decoder.keys(config, target)
    heads = [0 if kind == "conv" else n_kv for kind in kinds]
    target.key("int32", "attention.head_count_kv", heads)
    target.key("uint32", "shortconv.l_cache", config.size("conv_L_cache"))
    target.key("uint32", "vocab_size", config.size("vocab_size"))


def flat(source: Source) -> Iterator[tuple[str, Weight]]:
    """Yield weights, convolutions without their dimension of 1."""
    for name, weight in source.weights():
        if name.endswith("conv.conv.weight"):
            weight = weight.moved(lambda w: w.squeeze(1))
        yield name, weight


def _kinds(config: Config) -> list[str]:
    """Return kinds of layers; older files list those with attention."""
    layers = range(config.size("num_hidden_layers"))
    whole = config.get("full_attn_idxs")
    return ["conv" if whole is not None and i not in whole else "full_attention" for i in layers]


def _inner(config: Config) -> int:
    """Return the columns of the feed-forward network, which transformers computes."""
    size = config.size("block_ff_dim", "intermediate_size")
    if not config.need("block_auto_adjust_ff_dim"):
        return size
    multiple = config.size("block_multiple_of")
    size = int(config.need("block_ffn_dim_multiplier") * int(2 * size / 3))
    return -(-size // multiple) * multiple
