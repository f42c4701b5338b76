"""Falcon H1, attention beside Mamba-2: "falcon-h1". Source: transformers, `FalconH1ForCausalLM`."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import mamba2
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight
from jitllm.llm.errors import ModelFormatError

ARCHITECTURE = "falcon-h1"
CLASSES = ("FalconH1ForCausalLM",)
DEFAULTS = {
    "rope_theta": 10000.0, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
    "num_key_value_heads": 8, "mamba_d_conv": 4, "mamba_d_head": 8, "mamba_d_ssm": 1024,
    "mamba_d_state": 256, "mamba_n_groups": 1, "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 1.0, "embedding_multiplier": 1.0, "key_multiplier": 1.0,
    "lm_head_multiplier": 1.0, "mlp_multipliers": [1.0, 1.0], "ssm_in_multiplier": 1.0,
    "ssm_multipliers": [1.0] * 5, "ssm_out_multiplier": 1.0,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "feed_forward.gate_proj": "ffn_gate",
        "feed_forward.up_proj": "ffn_up",
        "feed_forward.down_proj": "ffn_down",
        "pre_ff_layernorm": "ffn_norm",
    }
    | {f"mamba.{name}": made for name, made in mamba2.MIXER.items()},
    decoder.WHOLE | {"model.final_layernorm": "output_norm"},
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.complete({"head_dim": decoder.head_dim(config)})
    config.complete({"num_key_value_heads": config.size("num_attention_heads")})
    decoder.keys(config, target)
    inner = config.size("mamba_d_ssm")
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    target.key("uint32", "ssm.conv_kernel", config.size("mamba_d_conv"))
    target.key("uint32", "ssm.inner_size", inner)
    target.key("uint32", "ssm.state_size", config.size("mamba_d_state"))
    target.key("uint32", "ssm.time_step_rank", inner // config.size("mamba_d_head"))
    target.key("uint32", "ssm.group_count", config.size("mamba_n_groups"))
    factors = _factors(config)
    for name, weight in source.weights():
        part = name.removesuffix(".weight").rpartition(".")[2]
        weight = mamba2.mixed(name, weight, config.size("mamba_n_groups"))
        weight = _times(weight, factors.get(part, ()))
        if part == "in_proj":
            weight = _times_rows(name, weight, config)
        # this one norm has no suffix in files of this architecture
        target.tensor(_NAMES(name).replace("ffn_norm.weight", "ffn_norm"), weight)
    vocabulary.gpt2(source, target)


def _factors(config: Config) -> dict[str, tuple[float, ...]]:
    """Return what the output of a matrix is multiplied with there, one after the other."""
    gate, down = config.need("mlp_multipliers")
    attention = config.need("attention_in_multiplier")
    return {
        "gate_proj": (gate,),
        "down_proj": (down,),
        "q_proj": (attention,),
        "k_proj": (config.need("key_multiplier"), attention),
        "v_proj": (attention,),
        "o_proj": (config.need("attention_out_multiplier"),),
        "in_proj": (config.need("ssm_in_multiplier"),),
        "out_proj": (config.need("ssm_out_multiplier"),),
        "lm_head": (config.need("lm_head_multiplier"),),
        "embed_tokens": (config.need("embedding_multiplier"),),
    }


def _times(weight: Weight, factors: Sequence[float]) -> Weight:
    for factor in factors:
        weight = weight.computed(partial(_product, np.float32(factor)))
    return weight


def _product(factor: Array | np.float32, array: Array) -> Array:
    """Return the product as float32, rounded to the type of `array`."""
    return (array.astype(np.float32) * factor).astype(array.dtype)


def _times_rows(name: str, weight: Weight, config: Config) -> Weight:
    """Return the mixer's first matrix with its five parts multiplied: gate, x, B, C, dt.

    Raises
    ------
    ModelFormatError
        If the matrix is too small for them.
    """
    inner = config.size("mamba_d_ssm")
    states = config.size("mamba_n_groups") * config.size("mamba_d_state")
    rest = weight.shape[0] - 2 * inner - 2 * states
    if rest < 0 or len(weight.shape) != 2:
        raise ModelFormatError(
            f"tensor {name!r}: expected a matrix of more than {2 * inner + 2 * states} rows, got "
            f"{weight.shape}; the weights are of another model than config.json"
        )
    parts = np.array(config.need("ssm_multipliers"), np.float32)
    rows = np.repeat(parts, [inner, inner, states, states, rest])[:, None]
    return weight.computed(partial(_product, rows))
