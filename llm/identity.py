"""Which file a model came from, and what is in it."""

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jitllm.llm.loaders.gguf import GGUFFile

_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


@dataclass
class Identity:
    """Which file a model came from, and what is in it.

    Attributes
    ----------
    paths : tuple of Path
    architecture, name : str
    n_parameters : int
    types : mapping of str to int
        Parameters stored in each tensor type.
    nbytes : int
        Of all tensors.
    """

    paths: tuple[Path, ...]
    architecture: str
    name: str
    n_parameters: int
    types: Mapping[str, int]
    nbytes: int
    _digest: str = field(default="", repr=False)
    _fingerprint: str = field(default="", repr=False)

    @classmethod
    def of(cls, file: GGUFFile, architecture: str) -> "Identity":
        """Read it from an open file."""
        types: Counter[str] = Counter()
        for info in file.tensors.values():
            types[info.type_name] += int(np.prod(info.shape, dtype=np.int64))
        name = str(file.metadata.get("general.name", "") or file.paths[0].stem)
        nbytes = sum(info.nbytes for info in file.tensors.values())
        paths = tuple(path.resolve() for path in file.paths)
        common = dict(types.most_common())
        return cls(paths, architecture, name, sum(types.values()), common, nbytes)

    def digest(self) -> str:
        """Return the SHA-256 of the files, in order, as hexadecimal digits; read at first use."""
        if not self._digest:
            total = hashlib.sha256()
            for path in self.paths:
                with open(path, "rb") as file:
                    while block := file.read(1 << 20):
                        total.update(block)
            self._digest = total.hexdigest()
        return self._digest

    def fingerprint(self) -> str:
        """Return a SHA-256 of the files' sizes, fronts and samples of the rest, as hexadecimal.

        It is read in milliseconds; a model differs in it from every other, its own fine-tunes
        included, unless somebody forges one.
        """
        if not self._fingerprint:
            total = hashlib.sha256()
            for path in self.paths:
                with open(path, "rb") as file:
                    size = file.seek(0, os.SEEK_END)
                    total.update(size.to_bytes(8, "little"))
                    for i in range(_SAMPLES):
                        file.seek(i * size // _SAMPLES)
                        total.update(file.read(_SAMPLE_BYTES))
            self._fingerprint = total.hexdigest()
        return self._fingerprint

    def brief(self) -> dict[str, str]:
        """Return what a saved state says of its model."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "fingerprint": self.fingerprint(),
        }

    def describe(self) -> dict[str, Any]:
        """Return plain data for `Generation.provenance`."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "types": dict(self.types),
            "sha256": self.digest(),
        }


@dataclass(frozen=True)
class Provenance:
    """What makes a result again, written down when it is called.

    Attributes
    ----------
    identity : Identity
    settings : dict
        Seed, sampler, parameters and the model's settings.
    """

    identity: Identity
    settings: Mapping[str, Any]

    def __call__(self) -> dict[str, Any]:
        """Return plain data."""
        return {"model": self.identity.describe(), **self.settings, "versions": versions()}


def versions() -> dict[str, str]:
    """Return the versions of what decides the bits of a result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("jitllm", "numpy", "numba", "llvmlite"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
