"""Folders of tiny models of decoders: their attention is Llama's with small differences."""

from functools import partial
from typing import Any

from conversions.folder import Folder, Shapes, pooling
from conversions.llama import CHATML, decoder
from conversions.tokenizers import TEMPLATE, byte_level, sentencepiece

BASE: dict[str, Any] = {
    "attention_dropout": 0.0,
    "bos_token_id": 280,
    "eos_token_id": 281,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 4096,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "vocab_size": 288,
}
QWEN_TOKENS = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "bos_token": None,
    "chat_template": TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "errors": "replace",
    "model_max_length": 131072,
    "pad_token": "<|endoftext|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "unk_token": None,
}
qwen_tokenizer = partial(
    byte_level, specials=(*CHATML, "<tool_call>"), config=QWEN_TOKENS, plain=("<tool_call>",)
)
GPT2_TOKENS = {
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "model_max_length": 4096,
    "tokenizer_class": "GPT2Tokenizer",
    "unk_token": "<|endoftext|>",
}
_SPM_TOKENS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "add_prefix_space": True,
    "bos_token": "<s>",
    "chat_template": [
        {"name": "default", "template": TEMPLATE},
        {"name": "tool_use", "template": "{{ tools }}" + TEMPLATE},
    ],
    "eos_token": "</s>",
    "legacy": False,
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
}
_PHI_ADDED = [
    {"id": 0, "content": "<unk>", "special": True},
    {"id": 1, "content": "<s>", "special": True},
    {"id": 2, "content": "</s>", "special": False},
    {"id": 299, "content": "<|end|>", "special": True},
]


def experts(config: dict[str, Any], name: str, parts: tuple[str, str, str]) -> Shapes:
    """The router and the experts of every layer, one matrix each.

    Parameters
    ----------
    config : dict
        config.json.
    name : str
        Of the feed-forward network of a layer.
    parts : tuple of str
        Names of gate, up and down.
    """
    width = config["hidden_size"]
    count = int(config["num_local_experts" if "num_local_experts" in config else "num_experts"])
    inner = config.get("moe_intermediate_size", config["intermediate_size"])
    shapes: Shapes = {}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}.{name}"
        shapes[f"{layer}.gate.weight"] = (count, width)
        for j in range(count):
            for part, shape in zip(parts, ((inner, width),) * 2 + ((width, inner),), strict=True):
                shapes[f"{layer}.experts.{j}.{part}.weight"] = shape
    return shapes


def without(shapes: Shapes, part: str) -> Shapes:
    """The tensors that do not have `part` in their name."""
    return {name: shape for name, shape in shapes.items() if part not in name}


def _olmo2(config: dict[str, Any]) -> Shapes:
    shapes = without(decoder(config, norms=("post_feedforward_layernorm",)), "input_layernorm")
    head = config["hidden_size"] // config["num_attention_heads"]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}.self_attn"
        shapes[f"{layer}.q_norm.weight"] = (config["hidden_size"],)
        shapes[f"{layer}.k_norm.weight"] = (config["num_key_value_heads"] * head,)
    return shapes


def _phi3(config: dict[str, Any]) -> Shapes:
    shapes = without(without(decoder(config), "_proj"), ".mlp")
    width, inner = config["hidden_size"], config["intermediate_size"]
    pairs = 2 * config["num_key_value_heads"] * width // config["num_attention_heads"]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes[f"{layer}.self_attn.qkv_proj.weight"] = (width + pairs, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, width)
        shapes[f"{layer}.mlp.gate_up_proj.weight"] = (2 * inner, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    return shapes


_MISTRAL = BASE | {
    "architectures": ["MistralForCausalLM"],
    "head_dim": 32,
    "max_position_embeddings": 131072,
    "model_type": "mistral",
    "rope_theta": 1000000.0,
    "sliding_window": None,
}
_MIXTRAL = BASE | {
    "architectures": ["MixtralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "model_type": "mixtral",
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_local_experts": 4,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "vocab_size": 304,
}
_QWEN2 = BASE | {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 280,
    "eos_token_id": 282,
    "max_window_layers": 2,
    "model_type": "qwen2",
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
_QWEN3 = {
    **{key: value for key, value in BASE.items() if key != "torch_dtype"},
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "dtype": "bfloat16",
    "head_dim": 32,
    "layer_types": ["full_attention"] * 3,
    "max_window_layers": 3,
    "model_type": "qwen3",
    "pad_token_id": None,
    "rope_parameters": {
        "attention_factor": 1.1,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "rope_theta": 5000000.0,
        "rope_type": "yarn",
    },
    "sliding_window": None,
    "tie_word_embeddings": True,
    "transformers_version": "5.23.0",
    "use_sliding_window": False,
}
_QWEN3MOE = BASE | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 32,
    "max_window_layers": 3,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "output_router_logits": False,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.001,
    "sliding_window": None,
    "use_sliding_window": False,
}
_PHI3 = BASE | {
    "architectures": ["Phi3ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 299,
    "model_type": "phi3",
    "num_hidden_layers": 2,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 299,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "vocab_size": 304,
}
_PHI4 = _PHI3 | {
    "bos_token_id": 280,
    "eos_token_id": 280,
    "max_position_embeddings": 16384,
    "pad_token_id": 280,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {
        "long_factor": [1.0, 1.5, 2.25, 4.0, 8.5, 12.0],
        "short_factor": [1.0, 1.0, 1.125, 1.25, 1.5, 2.0],
        "type": "longrope",
    },
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "vocab_size": 288,
}
_SMOLLM3 = BASE | {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "layer_types": ["full_attention"] * 5,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0, 1],
    "num_hidden_layers": 5,
    "pretraining_tp": 2,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
_OLMO2 = BASE | {
    "architectures": ["Olmo2ForCausalLM"],
    "attention_bias": False,
    "model_type": "olmo2",
    "pad_token_id": 280,
    "rope_scaling": None,
    "rope_theta": 500000,
    "torch_dtype": "float32",
}
_GRANITE = BASE | {
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_multiplier": 0.0625,
    "embedding_multiplier": 12.0,
    "logits_scaling": 8.0,
    "mlp_bias": False,
    "model_type": "granite",
    "residual_multiplier": 0.22,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
}
_GPT2 = partial(byte_level, specials=CHATML, config=GPT2_TOKENS)
FOLDERS = {
    "mistral": Folder(
        "Mistral-Nemo-Instruct-2407", _MISTRAL, decoder(_MISTRAL), _GPT2, pre="tekken", shards=3
    ),
    "mixtral": Folder(
        "Mixtral-8x7B-v0.1",
        _MIXTRAL,
        without(decoder(_MIXTRAL), ".mlp")
        | experts(_MIXTRAL, "block_sparse_moe", ("w1", "w3", "w2")),
        partial(sentencepiece, config=_SPM_TOKENS),
    ),
    "qwen2": Folder(
        "Qwen2.5-0.5B-Instruct", _QWEN2, decoder(_QWEN2, bias="qkv"), qwen_tokenizer, pre="qwen2"
    ),
    "qwen3": Folder(
        "Qwen3-0.6B",
        _QWEN3,
        decoder(_QWEN3, norms=("self_attn.q_norm", "self_attn.k_norm")),
        qwen_tokenizer,
        pre="qwen2",
        files={"chat_template.jinja": TEMPLATE},
    ),
    "qwen3-embedding": Folder(
        "Qwen3-Embedding-0.6B",
        _QWEN3,
        decoder(_QWEN3, norms=("self_attn.q_norm", "self_attn.k_norm")),
        partial(qwen_tokenizer, bos="<|endoftext|>"),
        pre="qwen2",
        files=pooling("lasttoken"),
    ),
    "qwen3moe": Folder(
        "Qwen3-30B-A3B",
        _QWEN3MOE,
        without(decoder(_QWEN3MOE, norms=("self_attn.q_norm", "self_attn.k_norm")), ".mlp")
        | experts(_QWEN3MOE, "mlp", ("gate_proj", "up_proj", "down_proj")),
        qwen_tokenizer,
        pre="qwen2",
    ),
    "phi3": Folder(
        "Phi-3-mini-4k-instruct",
        _PHI3,
        _phi3(_PHI3),
        partial(sentencepiece, config=_SPM_TOKENS, decoder=_PHI_ADDED),
        files={"added_tokens.json": {"<|assistant|>": 297, "<|user|>": 298, "<|end|>": 299}},
    ),
    "phi3-long": Folder("Phi-4-mini-instruct", _PHI4, _phi3(_PHI4), _GPT2, pre="gpt-4o"),
    "smollm3": Folder("SmolLM3-3B", _SMOLLM3, decoder(_SMOLLM3), qwen_tokenizer, pre="llama-bpe"),
    "olmo2": Folder("OLMo-2-0425-1B", _OLMO2, _olmo2(_OLMO2), _GPT2, pre="dbrx", dtype="F32"),
    "granite": Folder("granite-3.3-2b-instruct", _GRANITE, decoder(_GRANITE), _GPT2, pre="refact"),
}
