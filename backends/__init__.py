"""Devices that run a graph: the files beside this one, found by name."""

import importlib
from pathlib import Path
from typing import Any, cast

from jitllm.backends.base import Backend, BackendUnavailable

if __name__ == "backends":  # found by its folder name: the repository root is on sys.path
    raise ImportError(
        "backends/ is imported as jitllm.backends: use `python -P` or start Python elsewhere"
    )

_NOT_BACKENDS = {"__init__", "base", "ir"}


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
    if device not in names():
        raise BackendUnavailable(f"device must be one of {names()}, got {device!r}")
    module = importlib.import_module(f"jitllm.backends.{device}")
    return cast(Backend, module.open(**options))
