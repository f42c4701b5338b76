"""Architectures: one file per `general.architecture`, with a function `build(g, config)`.

A new architecture is a new file here, "-" in its name being "_" in the file's. Other packages
offer theirs through the entry-point group "jitllm.models" (name: the architecture, object: its
`build`), notebooks through `register_architecture`.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import UnsupportedArchitecture
from jitllm.llm.graph.builder import GraphBuilder

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

Build = Callable[[GraphBuilder, ModelConfig], None]
BuildMtp = Callable[[GraphBuilder, ModelConfig, int], None]
GROUP = "jitllm.models"
_NOT_MODELS = {"__init__", "loading"}
_registered: dict[str, Build] = {}


def register_architecture(name: str) -> Callable[[Build], Build]:
    """Make the decorated `build(g, config)` the one for files of architecture `name`.

    Example
    -------
    ::

        @register_architecture("mymodel")
        def build(g, config): ...
    """

    def register(build: Build) -> Build:
        _registered[name] = build
        return build

    return register


def names() -> list[str]:
    """Return all architectures that can be run."""
    return sorted(_own() | _registered.keys() | {entry.name for entry in _entry_points()})


def get(architecture: str) -> Build:
    """Return the function that adds an architecture's nodes to a graph.

    What was registered comes first, then the files of this folder, then entry points.

    Raises
    ------
    UnsupportedArchitecture
        If there is none; the message lists what there is.
    """
    if architecture in _registered:
        return _registered[architecture]
    stem = architecture.replace("-", "_")
    if stem in _own():
        module = importlib.import_module(f"{__name__}.{stem}")
        return cast(Build, module.build)
    for entry in _entry_points(name=architecture):
        return cast(Build, entry.load())
    raise UnsupportedArchitecture(
        f"expected an architecture among {', '.join(names())}; got {architecture!r}. "
        "`jitllm.llm.models.register_architecture` can add it"
    )


def get_mtp(architecture: str) -> BuildMtp:
    """Return the function that adds the nodes of a block which predicts further tokens.

    It stands as `build_mtp(g, config, block)` beside `build` in the architecture's file.

    Raises
    ------
    UnsupportedArchitecture
        If there is none.
    """
    build = get(architecture)
    build_mtp = getattr(sys.modules[build.__module__], "build_mtp", None)
    if build_mtp is None:
        raise UnsupportedArchitecture(
            f"expected an architecture with blocks that predict further tokens; {architecture!r} "
            "is run without them"
        )
    return cast(BuildMtp, build_mtp)


def _entry_points(**selection: Any) -> "EntryPoints":
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    return entry_points(group=GROUP, **selection)


def _own() -> set[str]:
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")} - _NOT_MODELS
    return {stem for stem in stems if not stem.startswith("_")}
