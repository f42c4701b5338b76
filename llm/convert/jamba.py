"""Jamba, attention between Mambas: "jamba". Source: transformers, `JambaForCausalLM`."""

from collections.abc import Iterable, Iterator

from jitllm.llm.convert import _bpe as bpe
from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import mamba, mamba2
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "jamba"
CLASSES = ("JambaForCausalLM",)
DEFAULTS = {
    "max_position_embeddings": 262144, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
    "attn_layer_offset": 4, "attn_layer_period": 8, "expert_layer_offset": 1,
    "expert_layer_period": 2, "mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2,
    "num_experts": 16, "num_experts_per_tok": 2,
}  # fmt: skip
_NORMS = {
    "b_layernorm": "ssm_b_norm",
    "c_layernorm": "ssm_c_norm",
    "dt_layernorm": "ssm_dt_norm",
}
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "feed_forward.down_proj": "ffn_down",
        "feed_forward.experts.down_proj": "ffn_down_exps",
        "feed_forward.experts.gate_proj": "ffn_gate_exps",
        "feed_forward.experts.up_proj": "ffn_up_exps",
        "feed_forward.gate_proj": "ffn_gate",
        "feed_forward.router": "ffn_gate_inp",
        "feed_forward.up_proj": "ffn_up",
        "pre_ff_layernorm": "ffn_norm",
    }
    | {f"mamba.{name}": made for name, made in (mamba2.MIXER | mamba.PARTS | _NORMS).items()},
    decoder.WHOLE | {"model.final_layernorm": "output_norm"},
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    _keys(config, target)
    weights = ((name, mamba.mixed(name, weight)) for name, weight in source.weights())
    merged = experts.merged(_single(weights, config), config.size("num_experts"))
    decoder.tensors(target, merged, _NAMES)
    if not vocabulary.sentencepiece(source, target):
        if not bpe.byte_fallback(source, target):
            vocabulary.gpt2(source, target)
        target.key("bool", "tokenizer.ggml.add_space_prefix", False)


def _keys(config: Config, target: Target) -> None:
    width, n_kv = config.size("hidden_size"), config.size("num_key_value_heads")
    first, each = int(config.need("attn_layer_offset")), config.size("attn_layer_period")
    decoder.sizes(config, target)
    layers = range(config.size("num_hidden_layers"))
    heads = [n_kv if i >= first and (i - first) % each == 0 else 0 for i in layers]
    target.key("int32", "attention.head_count_kv", heads)
    target.key("uint32", "ssm.conv_kernel", config.size("mamba_d_conv"))
    target.key("uint32", "ssm.inner_size", config.size("mamba_expand") * width)
    target.key("uint32", "ssm.state_size", config.size("mamba_d_state"))
    rank = config.get("mamba_dt_rank") or -(-width // 16)
    target.key("uint32", "ssm.time_step_rank", rank)


def _single(weights: Iterable[tuple[str, Weight]], config: Config) -> Iterator[tuple[str, Weight]]:
    """Yield weights; older files have experts in all layers, one only where there is no choice."""
    first, each = int(config.need("expert_layer_offset")), config.size("expert_layer_period")
    for name, weight in weights:
        name = name.replace(".moe.", ".feed_forward.")
        layer = name.removeprefix("model.layers.").partition(".")[0]
        if layer.isdecimal() and (int(layer) < first or (int(layer) - first) % each):
            name = name.replace(".experts.0.", ".")
        yield name, weight
