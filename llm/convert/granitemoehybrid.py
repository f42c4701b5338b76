"""Granite 4: "granitehybrid". Source: transformers, `GraniteMoeHybridForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import granite, granitemoe, llama, mamba2
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError, UnsupportedArchitecture

ARCHITECTURE = "granitehybrid"
CLASSES = ("GraniteMoeHybridForCausalLM",)
DEFAULTS = granite.DEFAULTS | {
    "mamba_d_conv": 4, "mamba_d_state": 256, "mamba_expand": 2, "mamba_n_groups": 1,
    "mamba_n_heads": 128, "shared_intermediate_size": 1024,
}  # fmt: skip
_ANY_LENGTH = 1 << 20
_DENSE = {
    "shared_mlp.gate": "ffn_gate", "shared_mlp.up": "ffn_up",
    "shared_mlp.output_linear": "ffn_down",
}  # fmt: skip
_MIXER = {f"mamba.{name}": made for name, made in mamba2.MIXER.items()}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    recurrent = _recurrent(config)
    granite.keys(config, target)
    target.key("uint32", "context_length", _ANY_LENGTH)  # there is no rotation
    target.key("bool", "rope.scaling.finetuned", False)
    n_kv = config.size("num_key_value_heads")
    target.key("int32", "attention.head_count_kv", [0 if r else n_kv for r in recurrent])
    inner = config.size("mamba_expand") * config.size("hidden_size")
    shared = config.get("shared_intermediate_size")
    target.key("uint32", "expert_shared_feed_forward_length", shared)
    target.key("uint32", "ssm.conv_kernel", config.size("mamba_d_conv"))
    target.key("uint32", "ssm.state_size", config.size("mamba_d_state"))
    target.key("uint32", "ssm.group_count", config.size("mamba_n_groups"))
    target.key("uint32", "ssm.inner_size", inner)
    target.key("uint32", "ssm.time_step_rank", config.size("mamba_n_heads"))
    dense = {} if config.get("num_local_experts") else _DENSE
    names = decoder.Names(granitemoe.LAYER | _MIXER | dense)
    groups = config.size("mamba_n_groups")
    weights = ((name, mamba2.mixed(name, weight, groups)) for name, weight in source.weights())
    llama.tensors(config, target, granitemoe.apart(weights), names)
    mamba2.pad_vocabulary(config, 8)
    vocabulary.sentencepiece_or_gpt2(source, target)


def _recurrent(config: Config) -> list[bool]:
    """Return for each layer whether it is a Mamba.

    Raises
    ------
    UnsupportedArchitecture
        If none is: those are of another architecture.
    ModelFormatError
        If `layer_types` has not one entry for each layer.
    """
    kinds, n_layers = config.need("layer_types"), config.size("num_hidden_layers")
    recurrent = [kind not in ("attention", "full_attention") for kind in kinds]
    if len(recurrent) != n_layers:
        raise ModelFormatError(
            f"{config.path}: expected {n_layers} layer_types, got {len(recurrent)}"
        )
    if not any(recurrent):
        raise UnsupportedArchitecture(f"{config.path}: expected a layer 'mamba', got none")
    return recurrent
