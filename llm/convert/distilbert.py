"""DistilBERT: "bert". Source: transformers, `DistilBertModel`."""

from collections.abc import Iterator

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import bert
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "bert"
CLASSES = ("DistilBertModel", "DistilBertForMaskedLM")
DEFAULTS = {"max_position_embeddings": 512, "type_vocab_size": 1}
_NAMES = decoder.Names(
    {
        "attention.q_lin": "attn_q",
        "attention.k_lin": "attn_k",
        "attention.v_lin": "attn_v",
        "attention.out_lin": "attn_output",
        "sa_layer_norm": "attn_output_norm",
        "ffn.lin1": "ffn_up",
        "ffn.lin2": "ffn_down",
        "output_layer_norm": "layer_output_norm",
    },
    bert.WHOLE,
    r"transformer\.layer\.",
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    config.values |= {
        "hidden_size": config.size("dim"),
        "intermediate_size": config.size("hidden_dim"),
        "layer_norm_eps": 1e-12,
        "num_attention_heads": config.size("n_heads"),
    }
    bert.keys(source, target)
    decoder.tensors(target, _body(source), _NAMES)
    bert.write_vocabulary(source, target)


def _body(source: Source) -> Iterator[tuple[str, Weight]]:
    """Yield weights without those that guess hidden words."""
    for name, weight in bert.weights(source, "distilbert."):
        if not name.startswith("vocab_"):
            yield name, weight
