"""Phi 1, 1.5 and 2: "phi2". Source: transformers, `PhiForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "phi2"
CLASSES = ("PhiForCausalLM",)
DEFAULTS = {
    "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER | {"self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"},
    decoder.WHOLE | {"model.final_layernorm": "output_norm"},
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    width, n_heads = config.size("hidden_size"), config.size("num_attention_heads")
    config.values |= {"intermediate_size": 4 * width, "num_key_value_heads": n_heads}
    decoder.sizes(config, target)
    share = decoder.rope_parameters(config)["partial_rotary_factor"]
    target.key("uint32", "rope.dimension_count", int(share * width) // n_heads)
    decoder.tensors(target, source.weights(), _NAMES)
    vocabulary.gpt2(source, target)
    target.key("bool", "tokenizer.ggml.add_bos_token", False)
