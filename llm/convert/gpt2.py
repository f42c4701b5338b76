"""GPT-2: "gpt2". Source: transformers, `GPT2LMHeadModel`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "gpt2"
CLASSES = ("GPT2LMHeadModel",)
DEFAULTS = {"n_positions": 1024, "layer_norm_epsilon": 1e-5}
_NAMES = decoder.Names(
    {
        "attn.c_attn": "attn_qkv",
        "attn.c_proj": "attn_output",
        "ln_1": "attn_norm",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn_up",
        "mlp.c_proj": "ffn_down",
    },
    {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "lm_head": "output"},
    r"h\.",
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.values["n_inner"] = 4 * config.size("n_embd")
    decoder.sizes(config, target)
    for name, weight in source.weights():
        name = name.removeprefix("transformer.")
        if name.endswith((".attn.bias", ".attn.masked_bias")):  # the causal mask
            continue
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            weight = weight.moved(lambda w: w.T)  # the layers are convolutions there
        target.tensor(_NAMES(name), weight)
    vocabulary.gpt2(source, target)
