"""Devices that run a graph: the files beside this one, found by name."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from jitllm.backends.base import Backend, BackendUnavailable
from jitllm.backends.rules import ByteRules

if TYPE_CHECKING:
    from jitllm.backends.ir import Graph
    from jitllm.backends.placement import Placement

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
        One of `names()`, or such a name with a number: "vulkan:1" is the second device of its kind.
    **options
        `n_threads` (int or None) and `precision` ("fast" or "exact").

    Raises
    ------
    BackendUnavailable
        If there is no such backend, or its device is missing.
    """
    name, index = kind_of(device)
    opening = _module(name).open
    if index:
        from inspect import signature

        if "index" not in signature(opening).parameters:
            raise BackendUnavailable(f"expected {name!r}, which is one device, got {device!r}")
        options["index"] = index
    return cast(Backend, opening(**options))


def open_split(placement: "Placement", graphs: "Sequence[Graph]", **options: Any) -> Backend:
    """Open the devices of a placement as one backend.

    Parameters
    ----------
    placement : Placement
    graphs : sequence of Graph
        Those of the model that will run.
    **options
        For all devices, as for `open_backend`.

    Raises
    ------
    BackendUnavailable
        If one of the devices is missing.
    """
    from jitllm.backends._split_backend import SplitBackend

    return SplitBackend(placement, graphs, lambda device: open_backend(device, **options))


def kind_of(device: str) -> tuple[str, int]:
    """Return the backend that a device's name has, and the device's number of that kind.

    Raises
    ------
    BackendUnavailable
        If what follows a colon is no number.
    """
    name, colon, index = device.partition(":")
    if colon and not (index.isascii() and index.isdigit()):
        raise BackendUnavailable(f'expected a device as "name" or "name:1", got {device!r}')
    return name, int(index or 0)


def byte_rules(device: str, **options: Any) -> ByteRules:
    """Return what a model takes on the device called `device`, which need not be there.

    Parameters
    ----------
    device : str
    **options
        As for `open_backend`.

    Raises
    ------
    BackendUnavailable
        If there is no such backend, or it has no byte rules.
    """
    name, _ = kind_of(device)
    rules = getattr(_module(name), "rules", None) if name in names() else None
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
