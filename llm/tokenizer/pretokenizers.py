"""The rules that `tokenizer.ggml.pre` names: where a text is cut before BPE."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jitllm.llm.errors import UnsupportedTokenizer


@dataclass(frozen=True)
class PreTokenizer:
    """One entry of `pretokenizers.json`.

    Attributes
    ----------
    regexes : tuple of str
        Oniguruma patterns, applied one after the other; matches and gaps become words.
    ignore_merges : bool
        A word that is a token is taken whole, whatever the merges say.
    add_bos, clean_spaces : bool
        Defaults where the file does not say.
    no_bos : bool
        There is no beginning-of-text token unless the file names one.
    force_bos : bool
        The beginning-of-text token is added whatever the file says.
    raw_utf8 : bool
        Tokens are UTF-8 with space marks, not bytes written as printable characters.
    keeps_spaces : bool
        With `raw_utf8`: spaces are not turned into marks.
    """

    regexes: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    clean_spaces: bool = False
    no_bos: bool = False
    force_bos: bool = False
    raw_utf8: bool = False
    keeps_spaces: bool = False

    def split(self, text: str) -> list[str]:
        """Cut a text into words; joined they are the text."""
        words: list[str] = [word for word, _ in _splitter(self.regexes).pre_tokenize_str(text)]
        return words


def pretokenizer(name: str) -> PreTokenizer:
    """The rules of one `tokenizer.ggml.pre`.

    Raises
    ------
    UnsupportedTokenizer
        If the name is not known; the message lists those that are.
    """
    table = _table()
    if name not in table:
        raise UnsupportedTokenizer(
            f"tokenizer.ggml.pre: expected one of {', '.join(sorted(table))}; got {name!r}. "
            "Its rules decide the tokens, so no other is used instead; update jitllm"
        )
    entry = table[name]
    return PreTokenizer(**{**entry, "regexes": tuple(entry["regexes"])})


@cache
def _table() -> dict[str, dict[str, Any]]:
    file = resources.files("jitllm.llm.tokenizer") / "pretokenizers.json"
    table: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return table


@cache
def _splitter(regexes: tuple[str, ...]) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Sequence, Split

    return Sequence([Split(Regex(regex), "isolated") for regex in regexes])
