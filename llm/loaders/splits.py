"""Names of models cut into several files: `<prefix>-00001-of-00003.gguf`."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SPLIT = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class SplitName(NamedTuple):
    """The parts of a split file's name.

    Attributes
    ----------
    prefix : str
        What comes before the number; equal for all files of a model.
    number : int
        Which file this is, counted from 1.
    total : int
        How many files there are.
    """

    prefix: str
    number: int
    total: int


def parse_split(name: str) -> SplitName | None:
    """Take a split file's name apart; None for other names.

    Examples
    --------
    >>> parse_split("big-00002-of-00003.gguf")
    SplitName(prefix='big', number=2, total=3)
    >>> parse_split("small.gguf") is None
    True
    """
    match = _SPLIT.fullmatch(name)
    if match is None:
        return None
    return SplitName(match["prefix"], int(match["number"]), int(match["count"]))


def split_names(prefix: str, count: int) -> list[str]:
    """Names of all files of a split model, in order.

    Examples
    --------
    >>> split_names("big", 2)
    ['big-00001-of-00002.gguf', 'big-00002-of-00002.gguf']
    """
    return [f"{prefix}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]


def sibling_splits(first: Path, count: int) -> list[Path] | None:
    """Paths of all `count` files of the model that `first` begins; None if its name does not fit.

    Parameters
    ----------
    first : Path
        The first file, named `<prefix>-00001-of-<count>.gguf`.
    count : int
        How many files the model says it has.
    """
    split = parse_split(first.name)
    if split is None or split.number != 1 or split.total != count:
        return None
    return [first.with_name(name) for name in split_names(split.prefix, count)]


def group_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Group file names by model: the first file's name, to the names of all its files.

    Companion files that are no language model (`mmproj`, importance matrices) are left out. All
    files of a split model are named even if only some are in `names`.

    Parameters
    ----------
    names : iterable of str
        File names, with folders before a `/` or without.

    Examples
    --------
    >>> group_splits(["a.gguf", "q8/b-00002-of-00002.gguf", "mmproj-a.gguf"])
    {'a.gguf': ['a.gguf'], 'q8/b-00001-of-00002.gguf': ['q8/b-00001-of-00002.gguf', \
'q8/b-00002-of-00002.gguf']}
    """
    models = {}
    for name in names:
        base = name.rpartition("/")[2].lower()
        if not base.endswith(".gguf") or "mmproj" in base or "imatrix" in base:
            continue
        split = parse_split(name)
        files = split_names(split.prefix, split.total) if split and split.total else [name]
        models[files[0]] = files
    return models
