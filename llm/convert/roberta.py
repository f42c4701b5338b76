"""RoBERTa: "bert". Source: transformers, `RobertaModel`."""

from collections.abc import Iterator

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import bert
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._weights import Weight

ARCHITECTURE = "bert"
CLASSES = ("RobertaModel", "RobertaForSequenceClassification")
DEFAULTS = {
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "pad_token_id": 1,
    "type_vocab_size": 2,
}  # fmt: skip
_NAMES = decoder.Names(
    bert.LAYER,
    bert.WHOLE | {"classifier.dense": "cls", "classifier.out_proj": "cls.output"},
    r"encoder\.layer\.",
)


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    body(source, target)
    vocabulary.gpt2(source, target)
    target.key("uint32", "tokenizer.ggml.token_type_count", source.config.size("type_vocab_size"))


def body(source: Source, target: Target) -> None:
    """Put down keys and tensors; texts begin at the position after that of padding."""
    config = source.config
    first = int(config.need("pad_token_id")) + 1
    config.values["max_position_embeddings"] = config.size("max_position_embeddings") - first
    bert.keys(source, target)
    decoder.tensors(target, _without(source, first), _NAMES)


def _without(source: Source, first: int) -> Iterator[tuple[str, Weight]]:
    """Yield weights; those of positions begin with the first that is used."""
    for name, weight in bert.weights(source, "roberta."):
        if name == "embeddings.position_embeddings.weight":
            weight = weight.moved(lambda w: w[first:])
        yield name, weight
