"""Cutting a text into words by what its characters are, as BERT's normalizer does."""

import unicodedata

_MARK, _PUNCTUATION, _CONTROL = "M", "P", "C"

# Chinese characters are words; the gap before 0x2B920 is in the tokenizers that models came from.
_CHINESE = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)

# Of Unicode 15.1, which the words follow, what Python before 3.13 does not know.
_RECENT = (
    (0x0CF3, 0x0CF3, _MARK),
    (0x0ECE, 0x0ECE, _MARK),
    (0x10EFD, 0x10EFF, _MARK),
    (0x11241, 0x11241, _MARK),
    (0x11B00, 0x11B09, _PUNCTUATION),
    (0x11F00, 0x11F01, _MARK),
    (0x11F03, 0x11F03, _MARK),
    (0x11F34, 0x11F3A, _MARK),
    (0x11F3E, 0x11F42, _MARK),
    (0x11F43, 0x11F4F, _PUNCTUATION),
    (0x13439, 0x1343F, _CONTROL),
    (0x13440, 0x13440, _MARK),
    (0x13447, 0x13455, _MARK),
    (0x1E08F, 0x1E08F, _MARK),
    (0x1E4EC, 0x1E4EF, _MARK),
)


def is_space(char: str) -> bool:
    r"""Whether Unicode calls the character white space; unlike Python's, without \x1c to \x1f."""
    return char.isspace() and not "\x1c" <= char <= "\x1f"


class WordTable(dict[int, str]):
    """For `str.translate`: leaves words with spaces between them, filled as characters come.

    White space becomes a space; with `bert`, punctuation and Chinese characters get spaces around
    them, and control characters are left out. Devlin et al. 2018, "BERT: Pre-training of Deep
    Bidirectional Transformers for Language Understanding", and its reference tokenizer.

    Parameters
    ----------
    lowercase : bool
    strip_accents : bool
        Only the first character of each decomposition is left, and no marks.
    bert : bool
    """

    def __init__(self, *, lowercase: bool, strip_accents: bool, bert: bool) -> None:
        super().__init__()
        self._lowercase, self._strip_accents, self._bert = lowercase, strip_accents, bert

    def __missing__(self, code: int) -> str:
        text = self[code] = self._written(chr(code))
        return text

    def _written(self, char: str) -> str:
        if self._strip_accents:
            char = unicodedata.normalize("NFD", char)[0]
        if is_space(char):
            return " "
        small = char.lower()[0] if self._lowercase else char
        if not self._bert:
            return small
        kind = _category(char)
        if char in "\0\ufffd" or kind == _CONTROL or (self._strip_accents and kind == _MARK):
            return ""
        return f" {small} " if kind == _PUNCTUATION or _stands_alone(char) else small


def _category(char: str) -> str:
    category = unicodedata.category(char)
    if category != "Cn":
        return category[0]
    code = ord(char)
    return next((kind for first, last, kind in _RECENT if first <= code <= last), "")


def _stands_alone(char: str) -> bool:
    if char < "\x7f":
        return unicodedata.category(char)[0] == "S"
    code = ord(char)
    return any(first <= code <= last for first, last in _CHINESE)
