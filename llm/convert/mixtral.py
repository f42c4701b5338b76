"""Mixtral, a mixture of experts: a "llama". Source: transformers, `MixtralForCausalLM`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _experts as experts
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import llama
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = llama.ARCHITECTURE
CLASSES = ("MixtralForCausalLM",)
DEFAULTS = {
    "rope_theta": 1e6, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "num_key_value_heads": 8, "num_experts_per_tok": 2, "num_local_experts": 8,
}  # fmt: skip
_NAMES = decoder.Names(
    decoder.LAYER
    | {
        "block_sparse_moe.gate": "ffn_gate_inp",
        "block_sparse_moe.experts.w1": "ffn_gate_exps",
        "block_sparse_moe.experts.w2": "ffn_down_exps",
        "block_sparse_moe.experts.w3": "ffn_up_exps",
    }
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    llama.keys(source.config, target)
    n_experts = source.config.size("num_local_experts")
    weights = experts.merged(source.weights(), n_experts)
    llama.tensors(source.config, target, weights, _NAMES)
    vocabulary.llama(source, target)
