"""Folders of tiny models of BERT's kind."""

import zlib
from base64 import b85decode
from functools import partial
from pathlib import Path
from typing import Any

from conversions.folder import Folder, Shapes, pooling
from conversions.tokenizers import byte_level, sentencepiece, wordpiece

_BERT: dict[str, Any] = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 128,
    "model_type": "bert",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.30.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 82,
}
_RERANKER = _BERT | {
    "architectures": ["BertForSequenceClassification"],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "num_hidden_layers": 2,
    "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
    "vocab_size": 96,
}
_NOMIC = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 160,
    "n_layer": 2,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 16,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "torch_dtype": "float32",
    "transformers_version": "4.34.0",
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 96,
}
_ROBERTA = _BERT | {
    "architectures": ["RobertaForSequenceClassification"],
    "bos_token_id": 0,
    "eos_token_id": 2,
    "id2label": {"0": "bad", "1": "so so", "2": "good"},
    "label2id": {"bad": 0, "so so": 1, "good": 2},
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 130,
    "model_type": "roberta",
    "num_hidden_layers": 2,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "vocab_size": 288,
}
_XLM = _ROBERTA | {
    "architectures": ["XLMRobertaForSequenceClassification"],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "model_type": "xlm-roberta",
    "vocab_size": 301,
}
_DISTILBERT: dict[str, Any] = {
    "activation": "gelu",
    "architectures": ["DistilBertForMaskedLM"],
    "dim": 64,
    "hidden_dim": 160,
    "max_position_embeddings": 128,
    "model_type": "distilbert",
    "n_heads": 4,
    "n_layers": 2,
    "pad_token_id": 0,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 96,
}
_ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "tokenizer_class": "RobertaTokenizer",
    "unk_token": "<unk>",
}

# SentencePiece's table for two rules: "A" becomes "a", "Ä" an "A" with a mark; compressed
_TABLE = (
    "c-j@x1&kF&5CG6mLU4C?cPsAh?i7bYp}6}I4mjN1-Cf$!qAh;KTA;YQyUY8Nyv*)qlgVTz5HTPk1j@t=1RO&`QwHyW"
    "kl=G<A`z7+L?;@)24WDKSi~g`@rg%55|EfgBqa&SNk*_l3R07bw4@<D>BvY1GLwm{WFb4*$Vm=zlZ(9MAwT)}fdUkw"
    "AVnxlF^W=x;*_E!WhhNK%2I*yRH7nPs7y7gQiJN$q9%2yO+D(;fci9|Ax&sZGn&$zA8APoTGNWQw4pui=)h0>Oh-D?"
    "i7xy?H@eb;?)0K3edtX;`Z9q23}PTd7|bw+GCVkNM(~$Gj+8?g%_znY#yG|@f$>aYB2$>mG^R3x>C9p#bC}IM=CXkK"
    "EMg%`Sj;k(vV!HTVkK)>%{tbyf%R-+BU{+aHny^Z?flA4e&;v-U>CdjlfCR=Kl_5cbAW^V&0!94lp`GH82=E?NltK@"
    "Q~b*r&hj7UImZS5=MopW!ey>;l^a~=7B{)WZSHZG2i)fo4|&34p7E3yJm(cJdBbbo@s<y~=Mx|K!e_qmHMsxbVRrC4"
    "2rPrO"
)


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _bert(config: dict[str, Any], prefix: str = "") -> Shapes:
    width, inner = config["hidden_size"], config["intermediate_size"]
    rows = {"word": config["vocab_size"], "position": config["max_position_embeddings"]}
    shapes: Shapes = {
        f"{prefix}embeddings.{name}_embeddings.weight": (n, width)
        for name, n in (rows | {"token_type": config["type_vocab_size"]}).items()
    }
    shapes |= _norm(f"{prefix}embeddings.LayerNorm", width)
    for i in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layer.{i}"
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{name}", width, width)
        shapes |= _linear(f"{layer}.attention.output.dense", width, width)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", width)
        shapes |= _linear(f"{layer}.intermediate.dense", inner, width)
        shapes |= _linear(f"{layer}.output.dense", width, inner)
        shapes |= _norm(f"{layer}.output.LayerNorm", width)
    return shapes | _linear(f"{prefix}pooler.dense", width, width)


def _nomic(config: dict[str, Any]) -> Shapes:
    width, inner = config["n_embd"], config["n_inner"]
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
        **_norm("emb_ln", width),
    }
    for i in range(config["n_layer"]):
        layer = f"encoder.layers.{i}"
        shapes[f"{layer}.attn.Wqkv.weight"] = (3 * width, width)
        shapes[f"{layer}.attn.out_proj.weight"] = (width, width)
        shapes |= {f"{layer}.mlp.{name}.weight": (inner, width) for name in ("fc11", "fc12")}
        shapes[f"{layer}.mlp.fc2.weight"] = (width, inner)
        shapes |= _norm(f"{layer}.norm1", width) | _norm(f"{layer}.norm2", width)
    return shapes


def _distilbert(config: dict[str, Any]) -> Shapes:
    width, inner = config["dim"], config["hidden_dim"]
    rows = {"word": config["vocab_size"], "position": config["max_position_embeddings"]}
    shapes: Shapes = {
        f"distilbert.embeddings.{name}_embeddings.weight": (n, width) for name, n in rows.items()
    }
    shapes |= _norm("distilbert.embeddings.LayerNorm", width)
    for i in range(config["n_layers"]):
        layer = f"distilbert.transformer.layer.{i}"
        for name in ("q", "k", "v", "out"):
            shapes |= _linear(f"{layer}.attention.{name}_lin", width, width)
        shapes |= _norm(f"{layer}.sa_layer_norm", width)
        shapes |= _linear(f"{layer}.ffn.lin1", inner, width)
        shapes |= _linear(f"{layer}.ffn.lin2", width, inner)
        shapes |= _norm(f"{layer}.output_layer_norm", width)
    shapes |= _linear("vocab_transform", width, width) | _norm("vocab_layer_norm", width)
    return shapes | _linear("vocab_projector", config["vocab_size"], width)


def _unigram(path: Path) -> None:
    """SentencePiece's file with a table of characters."""
    table = zlib.decompress(b85decode(_TABLE))
    sentencepiece(path, {"bos_token": "<s>", "eos_token": "</s>"}, unigram=table)


FOLDERS = {
    "roberta": Folder(
        "stsb-roberta-base",
        _ROBERTA,
        _bert(_ROBERTA, "roberta.")
        | _linear("classifier.dense", 64, 64)
        | _linear("classifier.out_proj", 3, 64),
        partial(
            byte_level,
            specials=("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
            config=_ROBERTA_TOKENS,
            roberta=True,
        ),
        pre="roberta-bpe",
        dtype="F32",
    ),
    "xlm-roberta": Folder(
        "bge-reranker-v2-m3",
        _XLM,
        _bert(_XLM, "roberta.")
        | _linear("classifier.dense", 64, 64)
        | _linear("classifier.out_proj", 1, 64),
        _unigram,
        dtype="F16",
    ),
    "distilbert": Folder(
        "distilbert-base-uncased",
        _DISTILBERT,
        _distilbert(_DISTILBERT),
        wordpiece,
        pre="jina-v2-en",
        dtype="F32",
    ),
    "bert": Folder(
        "bge-small-en-v1.5",
        _BERT,
        _bert(_BERT),
        wordpiece,
        pre="jina-v2-en",
        dtype="F32",
        files=pooling("cls_token"),
    ),
    "bert-reranker": Folder(
        "ms-marco-MiniLM-L-6-v2",
        _RERANKER,
        _bert(_RERANKER, "bert.") | _linear("classifier", 1, 64),
        wordpiece,
        pre="jina-v2-en",
        dtype="F32",
    ),
    "nomic-bert": Folder(
        "nomic-embed-text-v1.5",
        _NOMIC,
        _nomic(_NOMIC),
        wordpiece,
        pre="jina-v2-en",
        dtype="F32",
        raw=True,
        files=pooling("mean_tokens"),
    ),
}
