"""Folders of tiny models of further decoders, whose tensors a table lists.

A letter of a table stands for a size: w the hidden columns, q and k those of all heads of queries
and keys, d of one head, f of the feed-forward network, v the vocabulary, n the positions. A digit
stands for itself.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from conversions.decoders import BASE, GPT2_TOKENS, qwen_tokenizer
from conversions.folder import Folder, Shapes
from conversions.gemma import GEMMA_ADDED, GEMMA_TOKENS
from conversions.llama import CHATML
from conversions.tokenizers import byte_level, sentencepiece

ATTENTION = {
    "self_attn.q_proj.weight": "qw",
    "self_attn.k_proj.weight": "kw",
    "self_attn.v_proj.weight": "kw",
    "self_attn.o_proj.weight": "wq",
}
BIASES = {f"self_attn.{name}_proj.bias": size for name, size in zip("qkv", "qkk", strict=True)}
GATED = {
    "mlp.gate_proj.weight": "fw",
    "mlp.up_proj.weight": "fw",
    "mlp.down_proj.weight": "wf",
}
NORMS = {"input_layernorm.weight": "w", "post_attention_layernorm.weight": "w"}
_WHOLE = {"model.embed_tokens.weight": "vw", "model.norm.weight": "w", "lm_head.weight": "vw"}


def table(
    config: dict[str, Any],
    layer: Mapping[str, str],
    whole: Mapping[str, str] = _WHOLE,
    prefix: str = "model.layers.",
    **sizes: int,
) -> Shapes:
    """The tensors that two tables list, those of layers for each of them.

    Parameters
    ----------
    config : dict
        config.json; a head of its own (`lm_head`) only where `tie_word_embeddings` is not true.
    layer, whole : mapping of str to str
        Tensors and their sizes.
    prefix : str
        What comes before the number of a layer.
    **sizes : int
        Of further letters.
    """
    width = config["hidden_size" if "hidden_size" in config else "n_embd"]
    heads = config["num_attention_heads" if "num_attention_heads" in config else "n_head"]
    head = config.get("head_dim") or width // heads
    known = {
        "w": width,
        "d": head,
        "q": heads * head,
        "k": config.get("num_key_value_heads", heads) * head,
        "f": config.get("intermediate_size", 4 * width),
        "v": config["vocab_size"],
        "n": config.get("max_position_embeddings", config.get("n_positions")),
    } | sizes
    count = config["num_hidden_layers" if "num_hidden_layers" in config else "n_layer"]
    names = {f"{prefix}{i}.{name}": text for i in range(count) for name, text in layer.items()}
    shapes = {
        name: tuple(int(c) if c.isdecimal() else known[c] for c in text)
        for name, text in {**whole, **names}.items()
    }
    if config.get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return shapes


def biased(names: Mapping[str, str]) -> dict[str, str]:
    """A table with a bias beside each weight."""
    biases = {n.replace(".weight", ".bias"): text[0] for n, text in names.items()}
    return {**names, **biases}


def _named(name: str, model_type: str, **more: Any) -> dict[str, Any]:
    """config.json; without what only models have that normalize by the root of squares."""
    other = {"layer_norm_eps", "norm_epsilon", "norm_eps"} & more.keys()
    base = {name: value for name, value in BASE.items() if not other or "rms" not in name}
    return base | {"architectures": [name], "model_type": model_type} | more


_gpt2 = partial(byte_level, specials=CHATML, config=GPT2_TOKENS)
_gemma = partial(sentencepiece, config=GEMMA_TOKENS, gemma=True, decoder=GEMMA_ADDED)
_IDS = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "vocab_size": 304}
_GEMMA = _named(
    "GemmaForCausalLM",
    "gemma",
    head_dim=32,
    hidden_act="gelu_pytorch_tanh",
    rope_theta=10000.0,
    tie_word_embeddings=True,
    **_IDS,
)
_GEMMA2 = _GEMMA | {
    "architectures": ["Gemma2ForCausalLM"],
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "model_type": "gemma2",
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
}
_PHI = _named(
    "PhiForCausalLM",
    "phi",
    hidden_act="gelu_new",
    intermediate_size=256,
    layer_norm_eps=1e-05,
    num_key_value_heads=4,
    partial_rotary_factor=0.5,
    qk_layernorm=False,
    rope_theta=10000.0,
)
_GPT2_CONFIG: dict[str, Any] = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "bos_token_id": 280,
    "eos_token_id": 280,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 128,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 3,
    "n_positions": 128,
    "vocab_size": 288,
}
_STABLELM = _named(
    "StableLmForCausalLM",
    "stablelm",
    layer_norm_eps=1e-05,
    partial_rotary_factor=0.25,
    qk_layernorm=False,
    rope_theta=10000,
    use_parallel_residual=False,
    use_qkv_bias=True,
)
_STARCODER2 = _named(
    "Starcoder2ForCausalLM",
    "starcoder2",
    hidden_act="gelu_pytorch_tanh",
    norm_epsilon=1e-05,
    rope_theta=999999.4420358813,
    sliding_window=4096,
    tie_word_embeddings=True,
    use_bias=True,
)
_COHERE = _named(
    "CohereForCausalLM",
    "cohere",
    layer_norm_eps=1e-05,
    logit_scale=0.0625,
    model_max_length=131072,
    num_key_value_heads=4,
    rope_theta=8000000.0,
    tie_word_embeddings=True,
    use_qk_norm=False,
)
_COHERE2 = _named(
    "Cohere2ForCausalLM",
    "cohere2",
    head_dim=16,
    layer_norm_eps=1e-05,
    logit_scale=0.25,
    num_hidden_layers=5,
    rope_theta=50000.0,
    rotary_pct=1.0,
    sliding_window=64,
    sliding_window_pattern=4,
    tie_word_embeddings=True,
)
_GLM4 = _named(
    "Glm4ForCausalLM",
    "glm4",
    attention_bias=True,
    eos_token_id=[280, 283],
    head_dim=32,
    partial_rotary_factor=0.5,
    rms_norm_eps=1e-05,
    rope_theta=10000.0,
)
_EXAONE4 = _named(
    "Exaone4ForCausalLM",
    "exaone4",
    layer_types=["full_attention"] * 3,
    rope_scaling={
        "factor": 16.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 1024,
        "rope_type": "llama3",
    },
    rope_theta=1000000,
    sliding_window=None,
    sliding_window_pattern=None,
)
_NEMOTRON = _named(
    "NemotronForCausalLM",
    "nemotron",
    head_dim=16,
    hidden_act="relu2",
    norm_eps=1e-05,
    partial_rotary_factor=0.5,
    rope_theta=10000,
)
_SEED = _named(
    "SeedOssForCausalLM", "seed_oss", attention_bias=True, head_dim=32, rope_theta=10000000.0
)
_ERNIE = _named(
    "Ernie4_5ForCausalLM", "ernie4_5", head_dim=32, rope_theta=500000, tie_word_embeddings=True
)
_OLMO3 = _named(
    "Olmo3ForCausalLM",
    "olmo3",
    layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    num_hidden_layers=4,
    rope_scaling={
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 8.0,
        "original_max_position_embeddings": 512,
        "rope_type": "yarn",
    },
    rope_theta=500000,
    sliding_window=64,
)
_POST = {"post_attention_layernorm.weight": "w", "post_feedforward_layernorm.weight": "w"}
_PLAIN = ATTENTION | NORMS | GATED
FOLDERS = {
    "gemma": Folder("gemma-2b-it", _GEMMA, table(_GEMMA, _PLAIN), _gemma),
    "gemma2": Folder(
        "gemma-2-2b-it",
        _GEMMA2,
        table(_GEMMA2, _PLAIN | _POST | {"pre_feedforward_layernorm.weight": "w"}),
        _gemma,
    ),
    "phi2": Folder(
        "phi-2",
        _PHI,
        table(
            _PHI,
            biased(
                {name: text for name, text in ATTENTION.items() if "o_proj" not in name}
                | {"self_attn.dense.weight": "wq", "input_layernorm.weight": "w"}
                | {"mlp.fc1.weight": "fw", "mlp.fc2.weight": "wf"}
            ),
            biased({"model.final_layernorm.weight": "w", "lm_head.weight": "vw"})
            | {"model.embed_tokens.weight": "vw"},
        ),
        _gpt2,
        pre="gpt-2",
        dtype="F16",
    ),
    "gpt2": Folder(
        "gpt2-medium",
        _GPT2_CONFIG,
        table(
            _GPT2_CONFIG,
            biased({"ln_1.weight": "w", "ln_2.weight": "w"})
            | {"attn.c_attn.weight": "wt", "attn.c_attn.bias": "t"}
            | {"attn.c_proj.weight": "ww", "attn.c_proj.bias": "w"}
            | {"mlp.c_fc.weight": "wf", "mlp.c_fc.bias": "f"}
            | {"mlp.c_proj.weight": "fw", "mlp.c_proj.bias": "w"},
            {"wte.weight": "vw", "wpe.weight": "nw", "ln_f.weight": "w", "ln_f.bias": "w"},
            "h.",
            t=192,
        ),
        _gpt2,
        pre="gpt-2",
        dtype="F32",
    ),
    "stablelm": Folder(
        "stablelm-2-1_6b",
        _STABLELM,
        table(
            _STABLELM,
            ATTENTION | BIASES | biased(NORMS) | GATED,
            _WHOLE | {"model.norm.bias": "w"},
        ),
        _gpt2,
        pre="stablelm2",
    ),
    "starcoder2": Folder(
        "starcoder2-3b",
        _STARCODER2,
        table(
            _STARCODER2,
            biased(ATTENTION | NORMS | {"mlp.c_fc.weight": "fw", "mlp.c_proj.weight": "wf"}),
            _WHOLE | {"model.norm.bias": "w"},
        ),
        _gpt2,
        pre="starcoder",
        shards=2,
    ),
    "cohere": Folder(
        "c4ai-command-r-v01",
        _COHERE,
        table(_COHERE, ATTENTION | GATED | {"input_layernorm.weight": "w"}),
        _gpt2,
        pre="command-r",
        dtype="F16",
    ),
    "cohere2": Folder(
        "c4ai-command-r7b-12-2024",
        _COHERE2,
        table(_COHERE2, ATTENTION | GATED | {"input_layernorm.weight": "w"}),
        _gpt2,
        pre="command-r",
    ),
    "glm4": Folder(
        "GLM-4-9B-0414",
        _GLM4,
        table(
            _GLM4,
            ATTENTION
            | BIASES
            | NORMS
            | {"post_mlp_layernorm.weight": "w", "post_self_attn_layernorm.weight": "w"}
            | {"mlp.gate_up_proj.weight": "gw", "mlp.down_proj.weight": "wf"},
            g=320,
        ),
        partial(byte_level, specials=(*CHATML, "<|user|>"), config=GPT2_TOKENS),
        pre="chatglm-bpe",
    ),
    "exaone4": Folder(
        "EXAONE-4.0-1.2B",
        _EXAONE4,
        table(
            _EXAONE4,
            ATTENTION
            | GATED
            | _POST
            | {"self_attn.q_norm.weight": "d", "self_attn.k_norm.weight": "d"},
        ),
        _gpt2,
        pre="exaone4",
    ),
    "nemotron": Folder(
        "Minitron-4B-Base",
        _NEMOTRON,
        table(
            _NEMOTRON,
            ATTENTION | biased(NORMS) | {"mlp.up_proj.weight": "fw", "mlp.down_proj.weight": "wf"},
            _WHOLE | {"model.norm.bias": "w"},
        ),
        partial(sentencepiece, config={}),
    ),
    "seed-oss": Folder(
        "Seed-OSS-36B-Instruct", _SEED, table(_SEED, _PLAIN | BIASES), _gpt2, pre="seed-coder"
    ),
    "ernie4_5": Folder(
        "ERNIE-4.5-0.3B-PT", _ERNIE, table(_ERNIE, _PLAIN), partial(sentencepiece, config={})
    ),
    "olmo3": Folder(
        "Olmo-3-7B-Think",
        _OLMO3,
        table(
            _OLMO3,
            ATTENTION
            | GATED
            | _POST
            | {"self_attn.q_norm.weight": "q", "self_attn.k_norm.weight": "k"},
        ),
        qwen_tokenizer,
        pre="dbrx",
    ),
}
