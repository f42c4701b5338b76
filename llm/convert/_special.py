"""Tokens with a part to play, when they are added to texts, merges, and the chat template.

What a tokenizer adds stands in two files that may disagree: tokenizer.json counts.
"""

from collections.abc import Mapping
from typing import Any

from jitllm.llm.convert._source import Source
from jitllm.llm.convert._target import Target
from jitllm.llm.convert._tokens import content

_PARTS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ADDABLE = ("bos", "eos", "sep")  # others have no key
_ENDS = ("eot", "eom")
_KEYS = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id",
    "sep": "seperator_token_id", "pad": "padding_token_id", "mask": "mask_token_id",
    "eot": "eot_token_id", "eom": "eom_token_id",
}  # fmt: skip


def write(
    source: Source,
    target: Target,
    *,
    with_merges: bool = False,
    n_vocab: int | None = None,
) -> None:
    """Put down everything of a vocabulary but its tokens.

    Parameters
    ----------
    source, target : Source, Target
    with_merges : bool
        Also the merges of BPE.
    n_vocab : int, optional
        Leave out ids from here on.
    """
    tokenizer, settings = source.json("tokenizer.json"), source.json("tokenizer_config.json")
    if with_merges:
        target.key("string", "tokenizer.ggml.merges", merges(tokenizer))
    names = {part: content(settings.get(f"{part}_token")) for part in _PARTS}
    added = _Added(names, bool(settings))
    if tokenizer:
        added.read(tokenizer.get("post_processor") or {})
    for part, i in _ids(source, tokenizer if settings else {}, added).items():
        if part in _KEYS and (n_vocab is None or i < n_vocab):
            target.key("uint32", f"tokenizer.ggml.{_KEYS[part]}", i)
    for part in _ADDABLE:
        setting = settings.get(f"add_{part}_token")
        if isinstance(setting, bool):
            added.adds.setdefault(part, setting)
    for part, adds in added.adds.items():
        target.key("bool", f"tokenizer.ggml.add_{part}_token", adds)
    if settings:
        _template(source, target, settings)
    _normalizer(target, tokenizer.get("normalizer") or {})


def merges(tokenizer: Mapping[str, Any]) -> list[str]:
    """Return the merges of tokenizer.json, pairs with a space between.

    Spaces within a half are written as in the vocabulary of byte-level BPE.
    """
    found = tokenizer.get("model", {}).get("merges") or []
    if found and isinstance(found[0], str):
        return list(found)
    return [" ".join(half.replace(" ", "\u0120") for half in pair) for pair in found]


def texts(source: Source) -> set[str]:
    """Return the tokens that tokenizer_config.json names as having a part to play."""
    settings = source.json("tokenizer_config.json")
    named = [settings.get(f"{part}_token") for part in _PARTS]
    more = settings.get("additional_special_tokens") or settings.get("extra_special_tokens") or []
    if isinstance(more, Mapping):
        more = list(more.values())
    return {text for token in (*named, *more) if (text := content(token))}


class _Added:
    """Which tokens are put around a text, from tokenizer.json's `post_processor`."""

    def __init__(self, names: dict[str, str | None], settings: bool) -> None:
        self.names, self.adds, self._settings = names, dict[str, bool](), settings
        names["bos"] = names.get("bos") or names.get("cls")
        names["eos"] = names.get("eos") or names.get("sep")

    def read(self, processor: Mapping[str, Any]) -> None:
        for one in processor.get("processors", [processor]):
            kind = one.get("type")
            if kind == "ByteLevel":
                self.adds = {"bos": False, "eos": False} | self.adds
            elif kind == "RobertaProcessing":
                self.adds |= {"bos": True, "eos": True, "sep": True}
                for part in ("cls", "sep"):
                    self.names[part] = self.names.get(part) or one[part][0]
            elif kind == "TemplateProcessing":
                self._single(one.get("single", []))
                self._pair(one.get("single", []), one.get("pair", []))

    def _single(self, pieces: list[Mapping[str, Any]]) -> None:
        if len(pieces) < 2:
            return
        if first := _special(pieces[0]):
            if not self._settings:
                self.names["bos"] = first
            if first not in (self.names["bos"], self.names.get("cls")):
                for part in ("bos", "cls"):
                    self.names[part] = self.names.get(part) or first
            self.adds["bos"] = first in (self.names["bos"], self.names.get("cls"))
        if last := _special(pieces[-1]):
            if self._settings and last != self.names["eos"]:
                # what ended a text until now ends a turn, or a message
                part = next((p for p in _ENDS if p not in self.names), "")
                self.names[part] = self.names["eos"]
            self.names["eos"] = last
            self.adds["eos"] = True

    def _pair(self, single: list[Mapping[str, Any]], pair: list[Mapping[str, Any]]) -> None:
        first = _special(single[0]) if len(single) > 1 else None
        last = _special(single[-1]) if len(single) > 1 else None
        if pair and first and _special(pair[0]) == first:
            pair = pair[1:]
        if pair and last and _special(pair[-1]) == last:
            pair = pair[:-1]
        if len(pair) < 3 or _sequence(pair[0]) != "A" or _sequence(pair[-1]) != "B":
            return
        between = [_special(piece) for piece in pair[1:-1]]
        ends = (self.names.get("sep"), self.names.get("eos"))
        adds = (between[0] in ends and not last) or (len(between) == 2 and between[1] in ends)
        self.adds["sep"] = bool(adds)
        if adds:
            self.names["sep"] = self.names.get("sep") or self.names["eos"]


def _special(piece: Mapping[str, Any]) -> str | None:
    found: str | None = piece.get("SpecialToken", {}).get("id")
    return found


def _sequence(piece: Mapping[str, Any]) -> str | None:
    found: str | None = piece.get("Sequence", {}).get("id")
    return found


def _ids(source: Source, tokenizer: Mapping[str, Any], added: _Added) -> dict[str, int]:
    """Return ids by part: of the tokens named, else those in config.json."""
    by_text: dict[str, int] = {}
    for token in tokenizer.get("added_tokens", []):
        by_text.setdefault(token["content"], token["id"])
    ids = {}
    wanted = (*_PARTS, *(part for part in _ENDS if part in added.names))
    for part in wanted:
        name = added.names.get(part)
        if name in by_text:
            ids[part] = by_text[name]
    config = source.json("config.json")  # what it says of all senses comes before that of texts
    text = config.get("text_config") or {}
    for part in wanted:
        key = f"{part}_token_id"
        i = text.get(key) if config.get(key) is None else config[key]
        if type(i) is int and i >= 0:
            ids.setdefault(part, i)
    return ids


def _template(source: Source, target: Target, settings: Mapping[str, Any]) -> None:
    """Put down the chat template; there may be several with names."""
    template = settings.get("chat_template", _template_files(source))
    if not isinstance(template, list):
        target.key("string", "tokenizer.chat_template", template)
        return
    named = {}
    for choice in template:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in choice.get("name", ""))
        if name and choice.get("template") is not None:
            named[name] = choice["template"]
    default = named.pop("default", None)
    for name, text in named.items():
        target.key("string", f"tokenizer.chat_template.{name}", text)
    target.key("string", "tokenizer.chat_templates", sorted(named))
    target.key("string", "tokenizer.chat_template", default)


def _template_files(source: Source) -> Any:
    path = source.folder / "chat_template.jinja"
    if not path.is_file():
        return source.json("chat_template.json").get("chat_template")
    template = path.read_text("utf-8")
    more = sorted((source.folder / "additional_chat_templates").glob("*.jinja"))
    if not more:
        return template
    named = [{"name": other.stem, "template": other.read_text("utf-8")} for other in more]
    return [{"name": "default", "template": template}, *named]


def _normalizer(target: Target, normalizer: Mapping[str, Any]) -> None:
    kind, key = normalizer.get("type"), "tokenizer.ggml.normalizer."
    if kind == "Sequence":
        for one in normalizer.get("normalizers", []):
            _normalizer(target, one)
    elif kind == "BertNormalizer":
        target.key("bool", key + "lowercase", normalizer.get("lowercase"))
        target.key("bool", key + "strip_accents", normalizer.get("strip_accents"))
    elif kind == "Lowercase":
        target.key("bool", key + "lowercase", True)
    elif kind == "StripAccents":
        target.key("bool", key + "strip_accents", True)
