"""Vocabularies for tests: real ones with recorded ids, and small ones made up."""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jitllm.llm.tokenizer import Tokenizer

DATA = Path(__file__).parent / "data" / "vocab"
NAMES = ("phi-3", "gpt-2", "falcon")
KINDS = (
    *("bert_accents", "bert_cased", "bert_strip", "dna", "dna_none", "dna_special"),
    *("plamo2", "plamo2_few", "plamo2_words", "rwkv", "rwkv_bos", "t5_ab", "t5_bos", "t5_cross"),
    *("t5_map", "t5_none", "t5_plain", "ws", "ws_gpt2", "ws_lower"),
)
_CHARSMAP = "tokenizer.ggml.precompiled_charsmap"


@cache
def recorded(name: str) -> dict[str, Any]:
    """What `data/vocab/NOTICE.md` says of the file `<name>.json.xz`."""
    content: dict[str, Any] = json.loads(lzma.decompress((DATA / f"{name}.json.xz").read_bytes()))
    return content


@cache
def recorded_kind(name: str) -> dict[str, Any]:
    """What `data/vocab/NOTICE.md` says of one of `KINDS`."""
    content: dict[str, Any] = recorded("kinds")[name]
    metadata = dict(content["metadata"])
    if _CHARSMAP in metadata:
        metadata[_CHARSMAP] = np.frombuffer(bytes.fromhex(metadata[_CHARSMAP]), np.uint8)
    return {**content, "metadata": metadata}


@cache
def kind_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of one of `KINDS`, or of "bert-bge"."""
    return built((recorded if name == "bert-bge" else recorded_kind)(name)["metadata"])


@cache
def real_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of one of `NAMES`."""
    return built(recorded(name)["metadata"])


def built(metadata: dict[str, Any]) -> Tokenizer:
    """The tokenizer of metadata that has one."""
    tokenizer = Tokenizer.from_metadata(metadata)
    assert tokenizer is not None
    return tokenizer


def metadata(
    kind: str, tokens: dict[str, int], merges: list[str] | None = None, **keys: Any
) -> dict[str, Any]:
    """Metadata of a small vocabulary: token texts with their types; keys without their prefix."""
    out: dict[str, Any] = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": list(tokens.values()),
        "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
    }
    if merges is not None:
        out["tokenizer.ggml.merges"] = merges
    return {**out, **{f"tokenizer.ggml.{key}": value for key, value in keys.items()}}


def spm_metadata(more: dict[str, int] | None = None, **keys: Any) -> dict[str, Any]:
    """A `llama` vocabulary: unknown, bos, eos, 256 bytes, a few pieces, then `more`."""
    tokens = {"<unk>": 2, "<s>": 3, "</s>": 3}
    tokens |= {f"<0x{byte:02X}>": 6 for byte in range(256)}
    tokens |= dict.fromkeys(["▁a", "▁", "a", "b", "ab", "▁ab", "c"], 1)
    return metadata("llama", tokens | (more or {}), **keys)


def bpe_metadata(more: dict[str, int] | None = None, **keys: Any) -> dict[str, Any]:
    """A `gpt2` vocabulary: printable ASCII, the space, two merges, then `more`."""
    tokens = dict.fromkeys([*map(chr, range(33, 127)), "Ġ", "Ċ", "ab", "Ġab"], 1)
    return metadata("gpt2", tokens | (more or {}), ["a b", "Ġ ab"], **{"pre": "gpt-2", **keys})
