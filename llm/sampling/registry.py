"""Finds samplers by name: the files of this folder, then the entry points `jitllm.samplers`."""

import importlib
import pkgutil
from difflib import get_close_matches
from functools import cache

from jitllm.llm.sampling.base import Sampler
from jitllm.llm.sampling.errors import SamplingError

_PACKAGE = "jitllm.llm.sampling"
_GROUP = "jitllm.samplers"


def find(name: str) -> type[Sampler]:
    """Return the sampler class of a name; SamplingError suggests another for an unknown one.

    Case, "-" for "_" and a missing "_" do not matter; a class may list further aliases.
    """
    found = _lookup(name)
    if found is None:
        known = names()
        close = get_close_matches(_canonical(name), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise SamplingError(f"unknown sampler {name!r}: {hint}")
    return found


def exists(name: str) -> bool:
    """Return whether `find` would return a sampler."""
    return _lookup(name) is not None


def names() -> list[str]:
    """Return the names of all samplers, sorted."""
    return sorted({sampler.name for sampler in _all().values()})


def from_letters(letters: str) -> tuple[str, ...]:
    """Return the sampler names of a short sequence such as "edskypmxt"."""
    by_letter = {sampler.letter: sampler.name for sampler in _all().values() if sampler.letter}
    for letter in letters:
        if letter not in by_letter:
            raise SamplingError(
                f"unknown sampler letter {letter!r}: known are "
                + ", ".join(f"{key} {by_letter[key]}" for key in sorted(by_letter))
            )
    return tuple(by_letter[letter] for letter in letters)


def _canonical(name: str) -> str:
    return name.strip().lower().replace("-", "_")


@cache
def _lookup(name: str) -> type[Sampler] | None:
    canonical = _canonical(name)
    # the usual case imports one file; module names of this package are no paths
    return (canonical.isidentifier() and _from_file(canonical)) or _all().get(canonical)


def _from_file(name: str) -> type[Sampler] | None:
    module_name = f"{_PACKAGE}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        return None
    sampler: type[Sampler] | None = getattr(module, "SAMPLER", None)
    return sampler


@cache
def _all() -> dict[str, type[Sampler]]:
    """Return every sampler under its name and all other spellings."""
    from importlib.metadata import entry_points  # 10 ms, not needed for our own names

    package = importlib.import_module(_PACKAGE)
    found = [_from_file(module.name) for module in pkgutil.iter_modules(package.__path__)]
    found += [point.load() for point in entry_points(group=_GROUP)]
    samplers = [sampler for sampler in found if sampler is not None]
    spelled: dict[str, type[Sampler]] = {}
    for sampler in samplers:
        for name in (sampler.name, *sampler.aliases):
            spelled.setdefault(name, sampler)
            spelled.setdefault(name.replace("_", ""), sampler)
    return spelled
