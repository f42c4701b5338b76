"""Devices that run a graph: the files beside this one, found by name."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from jitllm.backends.base import Backend, BackendUnavailable
from jitllm.backends.rules import ByteRules

if __name__ == "backends":  # found by its folder name: the repository root is on sys.path
    raise ImportError(
        "backends/ is imported as jitllm.backends: use `python -P` or start Python elsewhere"
    )

_NOT_BACKENDS = {"__init__", "base", "ir", "placement", "rules"}


def names() -> list[str]:
    """Return the names of all backends that have a file here."""
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")} - _NOT_BACKENDS
    return sorted(stem for stem in stems if not stem.startswith("_"))


def open_backend(device: str, **options: Any) -> Backend:
    """Open the device called `device`.

    Parameters
    ----------
    device : str
        One of `names()`.
    **options
        `n_threads` (int or None) and `precision` ("fast" or "exact").

    Raises
    ------
    BackendUnavailable
        If there is no such backend, or its device is missing.
    """
    return cast(Backend, _module(device).open(**options))


def byte_rules(device: str, **options: Any) -> ByteRules:
    """Return what a model takes on the device called `device`, which need not be there.

    Parameters
    ----------
    device : str
        One of `names()`.
    **options
        As for `open_backend`.

    Raises
    ------
    BackendUnavailable
        If there is no such backend, or it has no byte rules.
    """
    rules = getattr(_module(device), "rules", None) if device in names() else None
    if rules is None:
        raise BackendUnavailable(
            f"no byte rules for device {device!r} yet: expected a backend among {names()} whose "
            "file has `rules`"
        )
    return cast(ByteRules, rules(**options))


def _module(device: str) -> ModuleType:
    if device not in names():
        raise BackendUnavailable(f"device must be one of {names()}, got {device!r}")
    return importlib.import_module(f"jitllm.backends.{device}")
