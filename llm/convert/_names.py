"""What a model's name tells: "Llama-3.2-1B-Instruct" has a base, a version, a size, a tuning.

The rules are those of llama.cpp's converter; there is no standard, and names that tell too little
tell nothing.
"""

import re
from typing import NamedTuple

_VERSION = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
_QUANT = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE = re.compile(
    r"(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)", re.IGNORECASE
)
_TUNING = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)
_AS_IT_IS = re.compile(r"v\d+(?:\.\d+)*|\d.*")
_THOUSANDS = " KMBT"


class NameParts(NamedTuple):
    """The parts of a model's name; None for those that are not in it."""

    name: str | None = None
    organization: str | None = None
    basename: str | None = None
    finetune: str | None = None
    version: str | None = None
    size_label: str | None = None


def title(text: str) -> str:
    """Return a name as a title.

    Examples
    --------
    >>> title("tiny-llama-v1.1-1b")
    'Tiny Llama v1.1 1b'
    """
    words = text.strip().replace("-", " ").split()
    plain = (word.islower() and not _AS_IT_IS.fullmatch(word) for word in words)
    return " ".join(w.title() if p else w for w, p in zip(words, plain, strict=True))


def parse_name(model_id: str, n_values: int = 0) -> NameParts:
    """Take the name of a model apart.

    Parameters
    ----------
    model_id : str
        Such as "owner/Name-7B-Chat"; the owner may be missing.
    n_values : int
        How many parameters the model has: a size far from that is something else.

    Examples
    --------
    >>> parse_name("meta-llama/Llama-3.2-1B-Instruct")
    NameParts(name='Llama 3.2 1B Instruct', organization='Meta Llama', basename='Llama-3.2', \
finetune='Instruct', version=None, size_label='1B')
    """
    if " " in model_id:
        return NameParts(name=title(model_id))
    owner, slash, name = model_id.partition("/")
    if not slash:
        owner, name = "", model_id
    parts = [part for part in name.split("-") if part]
    kinds = [set[str]() for _ in parts]
    for i, part in enumerate(parts):
        parts[i] = _annotate(i, part, kinds[i], n_values)
    _drop_words(parts, kinds)
    _mark_base(parts, kinds)

    def joined(kind: str, *, without: str = "") -> str | None:
        chosen = [p for p, k in zip(parts, kinds, strict=True) if kind in k and without not in k]
        return "-".join(dict.fromkeys(chosen) if kind == "size" else chosen) or None

    size, tuning = joined("size"), joined("tuning")
    version = joined("version", without="base")
    base = joined("base") if size or tuning or version else None  # else it may be anything
    organization = title(owner) if owner and not owner.startswith(".") else None
    return NameParts(title(name), organization, base, tuning, version, size)


def _annotate(i: int, part: str, kinds: set[str], n_values: int) -> str:
    """Note of what kind a part is; return it as it is to be written."""
    if _VERSION.fullmatch(part):
        kinds.add("version")
    elif _QUANT.fullmatch(part):
        kinds.add("type")
        return part.upper()
    elif i > 0 and _SIZE.fullmatch(part):
        return _annotate_size(part.replace("_", "."), kinds, n_values)
    elif i > 0 and _TUNING.fullmatch(part):
        kinds.add("tuning")
    return part


def _annotate_size(part: str, kinds: set[str], n_values: int) -> str:
    if part[-1].isdecimal():  # 7b1 is 7.1b
        part = f"{part[:-2]}.{part[-1]}{part[-2]}"
    if len(part) > 1 and part[-2].isdecimal() and part[-1] in "kmbt":
        part = part[:-1] + part[-1].upper()
    try:
        size = float(part[:-1]) * 1000 ** _THOUSANDS.find(part[-1])
    except ValueError:  # a word, or 8x7B
        size = n_values
    if n_values and abs(size - n_values) > 7 * n_values // 8:
        kinds.add("tuning")  # a length of context, it seems
        return part[:-1] + part[-1].lower()
    kinds.add("size")
    return part


def _drop_words(parts: list[str], kinds: list[set[str]]) -> None:
    """Sizes in words count only where there is none in digits."""
    sizes = [part for part, kind in zip(parts, kinds, strict=True) if "size" in kind]
    if any(c.isdecimal() for part in sizes for c in part):
        for part, kind in zip(parts, kinds, strict=True):
            if part.isalpha():
                kind.discard("size")


def _mark_base(parts: list[str], kinds: list[set[str]]) -> None:
    """The base is what comes first, with versions between; what has no kind after it is tuning."""
    leading = True
    for part, kind in zip(parts, kinds, strict=True):
        if leading and ((not kind and part[0].isalpha()) or "version" in kind):
            kind.add("base")
            continue
        leading = False
        if not kind:
            kind.add("tuning")
    for kind in reversed(kinds):
        if not {"base", "version"} <= kind:
            break
        kind.remove("base")
