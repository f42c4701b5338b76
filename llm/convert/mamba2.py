"""Mamba-2: "mamba2". Source: transformers, `Mamba2ForCausalLM`."""

import numpy as np

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "mamba2"
CLASSES = ("Mamba2ForCausalLM",)
DEFAULTS: dict[str, object] = {}  # all sizes have their defaults below
MIXER = {
    "A_log": "ssm_a",
    "D": "ssm_d",
    "dt_bias": "ssm_dt.bias",
    "conv1d": "ssm_conv1d",
    "in_proj": "ssm_in",
    "norm": "ssm_norm",
    "out_proj": "ssm_out",
}
WHOLE = {
    "backbone.embeddings": "token_embd",
    "backbone.embedding": "token_embd",
    "backbone.norm_f": "output_norm",
    "lm_head": "output",
}
_ANY_LENGTH = 1 << 20
_NAMES = decoder.Names(
    {"norm": "attn_norm"} | {f"mixer.{name}": made for name, made in MIXER.items()},
    WHOLE,
    "backbone.layers.",
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    width = config.size("hidden_size", "d_model", "dim")
    inner = config.get("intermediate_size", "d_inner") or (config.get("expand") or 2) * width
    groups = config.get("n_groups") or 1
    sizes(config, target, inner)
    target.key("uint32", "ssm.state_size", config.get("state_size", "d_state") or 128)
    target.key("uint32", "ssm.time_step_rank", inner // (config.get("head_dim") or 64))
    target.key("uint32", "ssm.group_count", groups)
    for name, weight in source.weights():
        name = name.removeprefix("model.")  # which is there in Codestral
        target.tensor(_NAMES(name), mixed(name, weight, groups))
    pad_vocabulary(config, 16)
    vocabulary.sentencepiece_or_gpt2(source, target)


def sizes(config: Config, target: Target, inner: int) -> None:
    """Put down the keys of both kinds of Mamba; those of attention have to be there."""
    known = {
        "context_length": _ANY_LENGTH,
        "embedding_length": config.size("hidden_size", "d_model", "dim"),
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": config.size("num_hidden_layers", "n_layer", "n_layers"),
        "ssm.conv_kernel": config.get("conv_kernel", "d_conv") or 4,
        "ssm.inner_size": inner,
    }
    for key, size in known.items():
        target.key("uint32", key, size)
    eps = config.get("layer_norm_epsilon", "rms_norm_eps") or 1e-5
    target.key("float32", "attention.layer_norm_rms_epsilon", eps)


def mixed(name: str, weight: Weight, groups: int) -> Weight:
    """Return a weight as GGUF has it: decay computed, one row for each head or group of a norm.

    Parameters
    ----------
    name : str
        A tensor's name in transformers.
    weight : Weight
    groups : int
        Into which the mixer's norm is cut.

    Raises
    ------
    ModelFormatError
        If the norm cannot be cut.
    """
    part = name.removesuffix(".weight").rpartition(".")[2]
    if part == "conv1d":
        return weight.moved(lambda w: w.squeeze(1)) if len(weight.shape) == 3 else weight
    if part == "A_log":
        return weight.moved(lambda w: w[:, None]).computed(decay)
    if part == "D":
        return weight.moved(lambda w: w[:, None])
    if name.endswith(("mixer.norm.weight", "mamba.norm.weight")):
        if weight.shape[0] % groups:
            raise ModelFormatError(
                f"tensor {name!r}: expected {groups} groups of one size, got {weight.shape[0]} "
                "values; the weights are of another model than config.json"
            )
        return weight.moved(lambda w: w.reshape(groups, -1))
    return weight


def decay(logs: Array) -> Array:
    """Return the rates of decay, whose logarithms are trained.

    They are rounded once; PyTorch's differ from them in the last bit, one in a hundred.
    """
    rates: Array = -np.exp(logs.astype(np.float64)).astype(logs.dtype)
    return rates


def pad_vocabulary(config: Config, multiple: int) -> None:
    """Count the tokens as there are rows: up to a multiple, which config.json may tell."""
    multiple = config.get("pad_vocab_size_multiple") or multiple
    config.values["vocab_size"] = -(-config.size("vocab_size") // multiple) * multiple
