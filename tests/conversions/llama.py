"""Folders of tiny models of Llama's kind: every size is small, and few are equal."""

from functools import partial
from typing import Any

from conversions.folder import Folder, Shapes
from conversions.tokenizers import TEMPLATE, byte_level, sentencepiece

_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|user|>", "<|assistant|>")
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CARD = """---
language:
- en
- fr
license: apache-2.0
base_model: tiny-org/Tiny-Base-7B
tags:
- text-generation
- tiny
datasets: tiny-org/tiny-set
pipeline_tag: text-generation
---

# Tiny
"""


def decoder(config: dict[str, Any], *, norms: tuple[str, ...] = (), bias: str = "") -> Shapes:
    """The tensors of a decoder with rotary attention and a gated feed-forward network.

    Parameters
    ----------
    config : dict
        config.json.
    norms : tuple of str
        Further norms of a layer, of one head's size where "self_attn" is in the name.
    bias : str
        The projections that have one: some of "qkvo".
    """
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    rows = {"q": heads * head, "k": config["num_key_value_heads"] * head}
    rows |= {"v": rows["k"], "o": width}
    shapes: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        for name, n in rows.items():
            columns = rows["q"] if name == "o" else width
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (n, columns)
            if name in bias:
                shapes[f"{layer}.self_attn.{name}_proj.bias"] = (n,)
        for name in norms:
            shapes[f"{layer}.{name}.weight"] = (head if "self_attn" in name else width,)
        shapes |= feed_forward(f"{layer}.mlp", width, config["intermediate_size"])
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return shapes


def feed_forward(name: str, width: int, inner: int) -> Shapes:
    """A gated feed-forward network."""
    return {
        f"{name}.gate_proj.weight": (inner, width),
        f"{name}.up_proj.weight": (inner, width),
        f"{name}.down_proj.weight": (width, inner),
    }


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 280,
    "eos_token_id": [281, 282],
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 96,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 2048,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 288,
}
_LLAMA3_TOKENS = {
    "bos_token": "<|begin_of_text|>",
    "chat_template": TEMPLATE,
    "clean_up_tokenization_spaces": True,
    "eos_token": "<|eot_id|>",
    "model_max_length": 131072,
    "tokenizer_class": "PreTrainedTokenizerFast",
}
_LLAMA2_TOKENS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": {"__type": "AddedToken", "content": "<s>", "normalized": True},
    "eos_token": {"__type": "AddedToken", "content": "</s>", "normalized": True},
    "legacy": False,
    "model_max_length": 1000000000000000019884624838656,
    "pad_token": None,
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": {"__type": "AddedToken", "content": "<unk>", "normalized": True},
}
LLAMA2 = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 144,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.32.0.dev0",
    "use_cache": True,
    "vocab_size": 304,
}
_CODE = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 32016}
_PLAIN = {key: value for key, value in LLAMA2.items() if key != "rope_scaling"}
_PLAIN["vocab_size"] = 275  # the reference would leave out the tokens that the tokenizer lacks
_ADDED = [
    {"id": 0, "content": "<unk>", "special": True},
    {"id": 1, "content": "<s>", "special": True},
    {"id": 2, "content": "</s>", "special": True},
    {"id": 299, "content": "<|user|>", "special": False},
    {"id": 300, "content": "two▁words", "special": False},
]
FOLDERS = {
    "llama": Folder(
        "Tiny-Llama-3.2-1B-Instruct",
        LLAMA,
        decoder(LLAMA),
        partial(
            byte_level, specials=_LLAMA3, config=_LLAMA3_TOKENS, bos="<|begin_of_text|>", pairs=True
        ),
        pre="llama-bpe",
        files={
            "generation_config.json": {
                "bos_token_id": 280, "do_sample": True, "eos_token_id": [281, 282],
                "temperature": 0.6, "top_p": 0.9, "transformers_version": "4.45.0.dev0",
            },
            "README.md": CARD,
        },
    ),
    "llama-2": Folder(
        "tinyllama-2-7b-chat-hf",
        LLAMA2,
        decoder(LLAMA2),
        partial(sentencepiece, config=_LLAMA2_TOKENS, decoder=_ADDED),
        dtype="F16",
        shards=2,
    ),
    "llama-code": Folder(
        "CodeLlama-7b-hf",
        LLAMA2 | _CODE,
        decoder(LLAMA2 | _CODE),
        partial(sentencepiece, config=_LLAMA2_TOKENS | {"eot_token": "▁<EOT>"}),
        dtype="F16",
    ),
    "llama-metaspace": Folder(
        "some model_v0.1",
        _PLAIN | {"rope_theta": 20000.0, "attention_bias": True, "torch_dtype": "float32"},
        decoder(_PLAIN, bias="qkvo"),
        partial(
            byte_level, specials=("<|im_end|>",), config=_LLAMA2_TOKENS, bos="<s>", metaspace=True
        ),
        dtype="F32",
    ),
}  # fmt: skip
