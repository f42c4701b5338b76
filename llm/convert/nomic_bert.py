"""Nomic's BERT, with rotation: "nomic-bert". Source: transformers, `NomicBertModel`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _pooling as pooling
from jitllm.llm.convert import bert
from jitllm.llm.convert._source import Config, Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import UnsupportedArchitecture

ARCHITECTURE = "nomic-bert"
CLASSES = ("NomicBertModel",)
DEFAULTS = {"type_vocab_size": 2, "max_trained_positions": 2048}
_NAMES = decoder.Names(
    {
        "attn.Wqkv": "attn_qkv",
        "attn.out_proj": "attn_output",
        "mlp.fc11": "ffn_up",
        "mlp.fc12": "ffn_gate",
        "mlp.fc2": "ffn_down",
        "norm1": "attn_output_norm",
        "norm2": "layer_output_norm",
    },
    bert.WHOLE | {"emb_ln": "token_embd_norm"},
    "encoder.layers.",
)
_EXPECTED = {
    "activation_function": ("swiglu",),
    "causal": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "moe_every_n_layers": (0,),
    "prenorm": (False,),
    "qkv_proj_bias": (False,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    _check(config)
    config.complete({"rope_theta": config.get("rotary_emb_base") or 1000.0})
    if config.get("n_positions"):  # more than it was trained with
        trained = config.size("max_trained_positions")
        config.values["n_positions"] = min(config.size("n_positions"), trained)
    decoder.keys(config, target)
    target.key("bool", "attention.causal", False)
    pooling.write(source, target)
    for name, weight in source.weights():
        target.tensor(_NAMES(name), weight)
    bert.write_vocabulary(source, target)


def _check(config: Config) -> None:
    for name, expected in _EXPECTED.items():
        if (value := config.get(name)) is not None and value not in expected:
            raise UnsupportedArchitecture(
                f"{config.path}: expected {name} {expected[0]!r}, got {value!r}"
            )
