"""ModernBERT: "modern-bert". Source: transformers, `ModernBertModel`."""

from jitllm.llm.convert import _decoder as decoder
from jitllm.llm.convert import _vocabulary as vocabulary
from jitllm.llm.convert import bert
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target

ARCHITECTURE = "modern-bert"
CLASSES = ("ModernBertModel",)
DEFAULTS = {
    "global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "max_position_embeddings": 8192,
    "norm_eps": 1e-5, "local_attention": 128, "global_attn_every_n_layers": 3,
    "hidden_activation": "gelu", "classifier_pooling": "cls",
}  # fmt: skip
_NAMES = decoder.Names(
    {
        "attn.Wo": "attn_output",
        "attn.Wqkv": "attn_qkv",
        "attn_norm": "attn_norm",
        "mlp.Wi": "ffn_up",
        "mlp.Wo": "ffn_down",
        "mlp_norm": "ffn_norm",
    },
    {
        "embeddings.norm": "token_embd_norm",
        "embeddings.tok_embeddings": "token_embd",
        "final_norm": "output_norm",
    },
)
_POOLING = {"mean": 1, "cls": 2}


def convert(source: Source, target: Target) -> None:
    """Put down keys, tensors and vocabulary."""
    config = source.config
    thetas = {"full": config.get("global_rope_theta"), "sliding": config.get("local_rope_theta")}
    rope = {f"{kind}_attention": {"rope_theta": theta} for kind, theta in thetas.items()}
    config.complete({"rope_parameters": rope})
    bert.keys(source, target)
    pooling = _POOLING.get(config.need("classifier_pooling"))
    target.key("uint32", "classifier.pooling_type", pooling)
    target.key("uint32", "attention.sliding_window", config.size("local_attention"))
    each = config.size("global_attn_every_n_layers")
    target.key("uint32", "attention.sliding_window_pattern", each)
    target.key("string", "rope.scaling.type", "none")
    target.key("uint32", "vocab_size", config.size("vocab_size"))
    target.key("string", "hidden_activation", config.need("hidden_activation"))
    decoder.tensors(target, bert.weights(source, "model."), _NAMES)
    for part in ("bos", "eos", "sep"):  # where the tokenizer's files do not say otherwise
        target.key("bool", f"tokenizer.ggml.add_{part}_token", True)
    vocabulary.gpt2(source, target)
