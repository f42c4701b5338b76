"""Vocabularies of tokenizer.json."""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jitllm.llm.convert import _special as special
from jitllm.llm.convert import _tokens as tokens
from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.errors import ModelFormatError, ModelNotFoundError, UnsupportedTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FILE = "tokenizer.json"
_FIRST_STEPS = ("normalizer", "pre_tokenizer")
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def write(source: Source, target: Target) -> None:
    """Put down a vocabulary of byte-level BPE."""
    tokenizer = open_tokenizer(source)
    known = listed(source, tokenizer)
    known.write(target, "gpt2", pre_name(source, tokenizer), scores=False)
    special.write(source, target, with_merges=True)


def listed(source: Source, tokenizer: "Tokenizer") -> tokens.Tokens:
    """Return the tokens of a tokenizer, with unused ones for ids that it lacks."""
    texts = {i: text for text, i in tokenizer.get_vocab().items()}
    added = tokenizer.get_added_tokens_decoder()
    result = tokens.Tokens()
    for i in range(tokens.vocab_size(source, max(texts, default=-1) + 1)):
        if i not in texts:
            result.add(f"[PAD{i}]", tokens.UNUSED)
        elif i in added:
            text = added[i].content
            if not added[i].normalized:  # llama.cpp looks for it in the text as it is
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                text = tokenizer.decode(ids, skip_special_tokens=False)
            result.add(*tokens.added_kind(text, added[i].special))
        else:
            result.add(texts[i], tokens.NORMAL)
    return result


def byte_fallback(source: Source, target: Target) -> bool:
    """Put down a vocabulary of BPE with byte tokens, as Llama 2 has; False if it is none.

    Its tokens have no scores. They get the negative number of the merge that makes them, by which
    the tokenizer "llama" merges in the same order; llama.cpp's converter gives all of them -1000,
    and texts then become other tokens than those that the model was trained with. Nor does it
    write tokens that the tokenizer lacks, as many as the embedding has rows.
    """
    tokenizer_json = source.json(_FILE)
    model = tokenizer_json.get("model", {})
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        return False
    texts = {i: text for text, i in open_tokenizer(source).get_vocab().items()}
    n_base, specials = len(model["vocab"]), special.texts(source)
    scores = _merge_scores(special.merges(tokenizer_json))
    lowest = -float(max(1000, len(scores)))
    result = tokens.Tokens()
    for i in range(tokens.vocab_size(source, max(texts, default=-1) + 1)):
        text = texts.get(i, f"[PAD{i}]")
        kind = tokens.NORMAL if i < n_base else tokens.USER_DEFINED
        if i not in texts:
            kind = tokens.UNUSED
        elif text in specials:
            kind = tokens.CONTROL
        elif i < n_base and _BYTE.fullmatch(text):
            kind = tokens.BYTE
        result.add(text, kind, scores.get(text, lowest))
    result.write(target, "llama", "default", scores=True)
    special.write(source, target, n_vocab=len(result.texts))
    prepends = '"prepend' in json.dumps([tokenizer_json.get(step) for step in _FIRST_STEPS])
    if not prepends and "add_prefix_space" not in source.json("tokenizer_config.json"):
        target.key("bool", "tokenizer.ggml.add_space_prefix", False)
    return True


def _merge_scores(merges: list[str]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for merge in merges:
        scores.setdefault(merge.replace(" ", ""), -float(len(scores)))
    return scores


def open_tokenizer(source: Source) -> "Tokenizer":
    """Return the tokenizer of tokenizer.json.

    Raises
    ------
    ModelNotFoundError
        If there is none.
    ModelFormatError
        If it is damaged.
    """
    from tokenizers import Tokenizer

    path = source.folder / _FILE
    if not path.is_file():
        raise ModelNotFoundError(
            f"expected {_FILE} or tokenizer.model in {source.folder}, got neither; save the "
            "tokenizer there with save_pretrained of transformers"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise ModelFormatError(f"{path}: expected a tokenizer, got {error}") from None


def pre_name(source: Source, tokenizer: "Tokenizer") -> str:
    """Return the name of the way in which a tokenizer cuts text: `tokenizer.ggml.pre`.

    It is known by the ids of a certain text, as llama.cpp's converter knows it.

    Raises
    ------
    UnsupportedTokenizer
        If the ids are none that are known.
    """
    if source.pre:
        return source.pre
    known = _known()
    ids = tokenizer.encode(known["text"]).ids
    digest = hashlib.sha256(str(ids).encode()).hexdigest()
    if digest not in known["names"]:
        raise UnsupportedTokenizer(
            f"{source.folder / _FILE}: expected a tokenizer whose way to cut text is known, got "
            f"another one ({digest[:12]}); if it is that of another model, name it (pre, --pre): "
            f"one of {', '.join(sorted(set(known['names'].values())))}"
        )
    return str(known["names"][digest])


@cache
def _known() -> dict[str, Any]:
    path = Path(__file__).parent / "pretokenizers.json"
    known: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return known
