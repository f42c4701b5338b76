"""Granite, mixtures of experts: "granitemoe". Source: transformers, `GraniteMoeForCausalLM`."""

from collections.abc import Iterable, Iterator
from functools import partial

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import granite, llama
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Array, Weight

ARCHITECTURE = "granitemoe"
CLASSES = ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM")
DEFAULTS = granite.DEFAULTS | {"num_local_experts": 8, "num_experts_per_tok": 2}
LAYER = decoder.LAYER | {
    "block_sparse_moe.gate": "ffn_gate_exps",
    "block_sparse_moe.output_linear": "ffn_down_exps",
    "block_sparse_moe.router.layer": "ffn_gate_inp",
    "block_sparse_moe.up": "ffn_up_exps",
    "shared_mlp.gate": "ffn_gate_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
    "shared_mlp.up": "ffn_up_shexp",
}
_NAMES = decoder.Names(LAYER)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    granite.keys(config, target)
    shared = config.get("shared_intermediate_size")
    target.key("uint32", "expert_shared_feed_forward_length", shared)
    llama.tensors(config, target, apart(source.weights()), _NAMES)
    vocabulary.llama(source, target)


def apart(weights: Iterable[tuple[str, Weight]]) -> Iterator[tuple[str, Weight]]:
    """Yield weights, with gate and up apart, which are stored above each other."""
    for name, weight in weights:
        base = name.removesuffix("input_linear.weight")
        if base == name:
            yield name, weight
            continue
        n = weight.shape[-2] // 2
        yield f"{base}gate.weight", weight.moved(partial(_rows, slice(n)))
        yield f"{base}up.weight", weight.moved(partial(_rows, slice(n, None)))


def _rows(rows: slice, array: Array) -> Array:
    return array[..., rows, :]
