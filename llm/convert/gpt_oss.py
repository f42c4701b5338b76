"""GPT-OSS with 16-bit experts: "gpt-oss". Source: transformers, `GptOssForCausalLM`."""

from collections.abc import Iterable, Iterator
from functools import partial

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight

ARCHITECTURE = "gpt-oss"
CLASSES = ("GptOssForCausalLM",)
DEFAULTS = {
    "rope_theta": 150000.0, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4,
    "sliding_window": 128,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | experts.LAYER
    | {
        "mlp.router": "ffn_gate_inp",
        "post_attention_layernorm": "post_attention_norm",
        "self_attn.sinks": "attn_sinks.weight",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    decoder.keys(config, target)
    target.key("uint32", "attention.sliding_window", config.size("sliding_window"))
    target.key("uint32", "expert_feed_forward_length", config.size("intermediate_size"))
    decoder.tensors(target, _apart(source.weights()), _NAMES)
    vocabulary.gpt2(source, target)


def _apart(weights: Iterable[tuple[str, Weight]]) -> Iterator[tuple[str, Weight]]:
    """Yield weights, with gate and up apart, which take turns, and rows where columns were."""
    for name, weight in weights:
        base, found, part = name.partition("mlp.experts.")
        if not found:
            yield name, weight
            continue
        kind = "bias" if part.endswith("_bias") else "weight"
        weight = weight if kind == "bias" else weight.moved(_transposed)
        if part.startswith("gate_up_proj"):
            axis = 1 if kind == "weight" else -1
            for i, half in enumerate(("gate", "up")):
                yield f"{base}{found}{half}_proj.{kind}", weight.moved(partial(_turn, i, axis))
        else:
            yield f"{base}{found}down_proj.{kind}", weight


def _transposed(array: Array) -> Array:
    return array.swapaxes(1, 2)


def _turn(first: int, axis: int, array: Array) -> Array:
    """Return every second row, or value of a bias."""
    return array[:, first::2] if axis == 1 else array[..., first::2]
