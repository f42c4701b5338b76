"""Devices that run a graph: the files beside this one, found by name.

Other packages offer theirs through the entry-point group "jitllm.backends" (name: the backend's,
object: a module, or what else has `open` and perhaps `rules`), notebooks through
`register_backend`.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jitllm.backends.base import Backend, BackendUnavailable
from jitllm.backends.rules import ByteRules

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

    from jitllm.backends._devices import DeviceInfo
    from jitllm.backends.base import DeviceMemory
    from jitllm.backends.ir import Graph
    from jitllm.backends.placement import Placement

if __name__ == "backends":  # found by its folder name: the repository root is on sys.path
    raise ImportError(
        "backends/ is imported as jitllm.backends: use `python -P` or start Python elsewhere"
    )

_NOT_BACKENDS = {"__init__", "base", "ir", "placement", "rules"}


GROUP = "jitllm.backends"
_registered: dict[str, Any] = {}


def names() -> list[str]:
    """Return the names of all backends: of files here, those registered, those of packages."""
    here = {path.stem for path in Path(__file__).parent.glob("*.py")} - _NOT_BACKENDS
    own = {stem for stem in here if not stem.startswith("_")}
    return sorted(own | _registered.keys() | {entry.name for entry in _entry_points()})


def register_backend(name: str, backend: Any) -> None:
    """Make `backend` the one called `name`.

    Parameters
    ----------
    name : str
    backend : module or object
        With `open(**options)`, which returns a `Backend`, and `rules(**options)` for plans.

    Raises
    ------
    TypeError
        If it has no `open`.
    """
    if not callable(getattr(backend, "open", None)):
        raise TypeError(f"backend {name!r}: expected an object with `open`, got {backend!r:.80}")
    _registered[name] = backend


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
    opening = _backend(name).open
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
    from jitllm.backends._split.backend import SplitBackend

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
    rules = getattr(_backend(name), "rules", None)
    if rules is None:
        raise BackendUnavailable(
            f"no byte rules for device {device!r} yet: expected a backend whose file has `rules`"
        )
    return cast(ByteRules, rules(**options))


def devices() -> "list[DeviceInfo]":
    """Return all devices, with what they are or why they cannot be used: each is opened briefly."""
    from jitllm.backends._devices import found

    return [found(name) for name in names()]


def device_memory(device: str) -> "DeviceMemory | None":
    """Return the bytes of the device called `device`, None where it does not tell.

    Raises
    ------
    BackendUnavailable
        As `open_backend` does: the device is opened briefly.
    """
    backend = open_backend(device)
    try:
        return backend.device_memory()
    finally:
        backend.close()


def _backend(name: str) -> Any:
    """Return what has `open`: what was registered, else a file here, else a package's."""
    if name in _registered:
        return _registered[name]
    is_name = name.isidentifier() and not name.startswith("_") and name not in _NOT_BACKENDS
    if is_name and Path(__file__).with_name(f"{name}.py").exists():
        return importlib.import_module(f"jitllm.backends.{name}")
    for entry in _entry_points(name=name):
        try:
            return entry.load()
        except Exception as error:  # anything may go wrong in others' code
            raise BackendUnavailable(
                f"the package of backend {name!r} does not load ({entry.value}): {error}"
            ) from error
    raise BackendUnavailable(f"device must be one of {names()}, got {name!r}")


def _entry_points(**selection: Any) -> "EntryPoints":
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    return entry_points(group=GROUP, **selection)
