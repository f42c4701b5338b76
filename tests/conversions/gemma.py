"""Folders of tiny models of Gemma 3: one of text alone, one that sees pictures too."""

from functools import partial

from conversions.decoders import BASE
from conversions.folder import Folder, Shapes
from conversions.llama import decoder
from conversions.tokenizers import TEMPLATE, sentencepiece

GEMMA_TOKENS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<bos>",
    "chat_template": TEMPLATE,
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "sp_model_kwargs": None,
    "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
}
GEMMA_ADDED = [
    {"id": 0, "content": "<pad>", "special": True},
    {"id": 1, "content": "<eos>", "special": True},
    {"id": 2, "content": "<bos>", "special": True},
    {"id": 3, "content": "<unk>", "special": True},
    {"id": 4, "content": "<unused0>", "special": False},
    {"id": 5, "content": "<start_of_turn>", "special": True},
    {"id": 298, "content": "▁▁", "special": False},
]
GEMMA_NORMS = (
    *("self_attn.q_norm", "self_attn.k_norm"),
    *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)


_GEMMA3 = BASE | {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": None,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "model_type": "gemma3_text",
    "num_hidden_layers": 7,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 32,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "tie_word_embeddings": True,
    "vocab_size": 304,
}
_GEMMA_VISION_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "model_type": "gemma3_text",
    "num_hidden_layers": 2,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
    "vocab_size": 304,
}
_GEMMA_VISION = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 290,
    "eoi_token_index": 291,
    "eos_token_id": [1, 6],
    "image_token_index": 292,
    "initializer_range": 0.02,
    "mm_tokens_per_image": 4,
    "model_type": "gemma3",
    "text_config": _GEMMA_VISION_TEXT,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.0.dev0",
    "vision_config": {"hidden_size": 32, "model_type": "siglip_vision_model"},
}
_GEMMA_FULL = {
    **_GEMMA_VISION_TEXT,
    **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    "tie_word_embeddings": True,
}
_VISION_TENSORS: Shapes = {
    "vision_tower.vision_model.embeddings.patch_embedding.weight": (32, 3, 4, 4),
    "vision_tower.vision_model.post_layernorm.weight": (32,),
    "multi_modal_projector.mm_input_projection_weight": (32, 64),
}
FOLDERS = {
    "gemma3": Folder(
        "gemma-3-270m-it",
        _GEMMA3,
        decoder(_GEMMA3, norms=GEMMA_NORMS),
        partial(sentencepiece, config=GEMMA_TOKENS, gemma=True, decoder=GEMMA_ADDED),
    ),
    "gemma3-vision": Folder(
        "gemma-3-4b-it",
        _GEMMA_VISION,
        {f"language_model.{k}": v for k, v in decoder(_GEMMA_FULL, norms=GEMMA_NORMS).items()}
        | _VISION_TENSORS,
        partial(sentencepiece, config=GEMMA_TOKENS, gemma=True, decoder=GEMMA_ADDED),
    ),
}
