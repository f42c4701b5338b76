"""Tiny tokenizers in the files of a Hugging Face folder, made without any tokenizer library."""

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_MERGES = (
    "h e", "Ġ t", "Ġt he", "i n", "Ġ a", "e r", "o n", "Ġ s", "1 2", "Ġ Ġ", "Ċ Ċ", "Ã ©",
    "Ġa n", "ĠĠ ĠĠ", "l l", "e ll", "H ell", "Hell o", "e s", "y es", "n o", "o u", "y ou", "Ġ b",
)  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_ROLES = (("<unk>", "<s>", "</s>", "<pad>"), ("<unk>", "<bos>", "<eos>", "<pad>"))
WORDS = (
    *("the", "of", "and", "to", "in", "cat", "dog", "run", "##ing", "##ed", "##er", "un"),
    *("é", "!", ",", ".", "?", "-", "'", "中"),
)


def save_json(path: Path, content: Any) -> None:
    """Write JSON as `save_pretrained` does: two spaces, other alphabets as they are."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def added(texts: Iterable[str], first: int, plain: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The `added_tokens` of tokenizer.json; those in `plain` are not special."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return [
        {
            "id": first + i,
            "content": text,
            **flags,
            "normalized": text in plain,
            "special": text not in plain,
        }
        for i, text in enumerate(texts)
    ]


def template(prefix: Sequence[str], suffix: Sequence[str], ids: dict[str, int]) -> dict[str, Any]:
    """A `TemplateProcessing` that puts tokens before and after a text, or each of two."""

    def special(text: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": text, "type_id": kind}}

    def part(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [*(special(t, 0) for t in prefix), part("A", 0), *(special(t, 0) for t in suffix)]
    bert = prefix and suffix and prefix[0] != suffix[0]
    head = [] if bert else [special(t, 1) for t in prefix]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *head, part("B", 1), *(special(t, 1) for t in suffix)],
        "special_tokens": {
            t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in {*prefix, *suffix}
        },
    }


def byte_level(
    path: Path,
    specials: Sequence[str],
    config: dict[str, Any],
    *,
    plain: Sequence[str] = (),
    bos: str | None = None,
    pairs: bool = False,
    metaspace: bool = False,
    roberta: bool = False,
) -> None:
    """Write tokenizer.json of a byte-level BPE vocabulary, and tokenizer_config.json.

    Parameters
    ----------
    path : Path
    specials : sequence of str
        Added after the 280 tokens of bytes and merges.
    config : dict
        tokenizer_config.json without `added_tokens_decoder`.
    plain : sequence of str
        Those of `specials` that are not special.
    bos : str, optional
        Put before every text by the post-processor.
    pairs : bool
        Merges as lists of two, as newer versions write them, else as strings.
    metaspace : bool
        The BPE of SentencePiece models: "▁" for spaces, byte tokens for what is not there.
    roberta : bool
        "<s>" before a text, "</s>" after it.
    """
    chars = [chr(c) for c in sorted([*_PRINTABLE, *range(256, 256 + 256 - len(_PRINTABLE))])]
    merges = list(_MERGES)
    if metaspace:
        chars = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        merges = ["h e", "▁ t", "▁t he", "i n", "▁ a", "e r", "▁ ▁"]
        chars += sorted({part for merge in merges for part in merge.split() if len(part) == 1})
    tokens = list(dict.fromkeys([*chars, *(merge.replace(" ", "") for merge in merges)]))
    listed = ["<unk>", "<s>", "</s>"] if metaspace else []
    entries = added(listed, 0) + added(specials, len(tokens), plain)
    ids = {entry["content"]: entry["id"] for entry in entries}
    save_json(
        path / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": entries,
            "normalizer": _metaspace_normalizer() if metaspace else None,
            "pre_tokenizer": None if metaspace else _byte_pretokenizer(),
            "post_processor": _roberta(ids) if roberta else _post(bos, ids, metaspace),
            "decoder": _metaspace_decoder() if metaspace else _byte_decoder(),
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "<unk>" if metaspace else None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": metaspace,
                "byte_fallback": metaspace,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": [merge.split(" ") for merge in merges] if pairs else merges,
            },
        },
    )
    _save_config(path, config, entries)


def _byte_pretokenizer() -> dict[str, Any]:
    flags = {"add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return {"type": "ByteLevel", **flags}


def _byte_decoder() -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def _metaspace_normalizer() -> dict[str, Any]:
    parts = [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]
    return {"type": "Sequence", "normalizers": parts}


def _metaspace_decoder() -> dict[str, Any]:
    parts = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {"type": "Sequence", "decoders": parts}


def _roberta(ids: dict[str, int]) -> dict[str, Any]:
    ends = {"cls": ["<s>", ids["<s>"]], "sep": ["</s>", ids["</s>"]]}
    flags = {"add_prefix_space": False, "trim_offsets": True}
    return {"type": "RobertaProcessing", **ends, **flags}


def _post(bos: str | None, ids: dict[str, int], metaspace: bool) -> dict[str, Any] | None:
    levels = _byte_pretokenizer()
    if bos is None:
        return None if metaspace else levels
    put = template([bos], [], ids)
    return put if metaspace else {"type": "Sequence", "processors": [levels, put]}


def _save_config(path: Path, config: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    decoder = {
        str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
        for entry in entries
    }
    save_json(path / "tokenizer_config.json", {"added_tokens_decoder": decoder, **config})


def wordpiece(path: Path, *, lowercase: bool = True) -> None:
    """Write vocab.txt, tokenizer.json and tokenizer_config.json of a BERT vocabulary."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = [specials[0], "[unused0]", "[unused1]", *specials[1:], *letters]
    tokens += [*(f"##{letter}" for letter in letters), *WORDS]
    (path / "vocab.txt").write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
    ids = {token: i for i, token in enumerate(tokens)}
    entries = [added([token], ids[token])[0] for token in specials]
    normalizer = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    save_json(
        path / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": entries,
            "normalizer": {"type": "BertNormalizer", **normalizer, "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": template(["[CLS]"], ["[SEP]"], ids),
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": ids,
            },
        },
    )
    config = {f"{t[1:-1].lower()}_token": t for t in specials}
    more = {"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"}
    _save_config(path, {**config, **more, "model_max_length": 512}, entries)


def sentencepiece(
    path: Path,
    config: dict[str, Any],
    *,
    gemma: bool = False,
    unigram: bytes | None = None,
    decoder: Sequence[dict[str, Any]] = (),
) -> None:
    """Write tokenizer.model of SentencePiece's BPE, and tokenizer_config.json.

    Parameters
    ----------
    path : Path
    config : dict
        tokenizer_config.json without `added_tokens_decoder`.
    gemma : bool
        The order of Gemma: pad, eos, bos, unknown first; no space before the text.
    unigram : bytes, optional
        Make a unigram model instead, sentencepiece.bpe.model, with this table of characters.
    decoder : sequence of dict
        Entries of `added_tokens_decoder` with their `id`.
    """
    names = ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    pieces = [(name, 0.0, 2 if name == "<unk>" else 3) for name in names]
    if gemma:
        pieces += [("<unused0>", 0.0, 4), ("<start_of_turn>", 0.0, 4), ("<end_of_turn>", 0.0, 4)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    texts = ["▁t", "he", "▁the", "in", "▁a", "er", *map(chr, range(97, 123)), "▁", "é", "中"]
    pieces += [(text, -float(i), 1) for i, text in enumerate(texts)]
    pieces += [("▁odd", -99.5, 5)]
    ids = [names.index(name) if name in names else -1 for name in _ROLES[gemma]]
    trainer = _number(3, 2 if unigram is None else 1) + _number(35, 1)
    trainer += b"".join(_number(40 + i, number) for i, number in enumerate(ids))
    normalizer = (
        _bytes(1, b"identity")
        + _bytes(2, unigram or b"")
        + _number(3, int(not gemma))
        + _number(4, 0)
    )
    model = b"".join(_bytes(1, _piece(*piece)) for piece in pieces)
    model += _bytes(2, trainer) + _bytes(3, normalizer + _number(5, 1))
    name = "tokenizer.model" if unigram is None else "sentencepiece.bpe.model"
    (path / name).write_bytes(model)
    _save_config(path, config, list(decoder))


def _piece(text: str, score: float, kind: int) -> bytes:
    return _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % (1 << 64))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
