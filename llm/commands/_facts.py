"""What a model file says about itself without its weights being read."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jitllm.llm.loaders.gguf import GGUFFile


@dataclass(frozen=True)
class TypeTotal:
    """All tensors of one type: how many, their weights and their bytes."""

    type_name: str
    n_tensors: int
    n_params: int
    n_bytes: int


@dataclass(frozen=True)
class ModelFacts:
    """A model's name, kind and size.

    Attributes
    ----------
    paths : tuple of Path
    architecture, name : str
        Empty where the file says nothing.
    types : tuple of TypeTotal
        The type with most weights first.
    """

    paths: tuple[Path, ...]
    architecture: str
    name: str
    types: tuple[TypeTotal, ...]

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(total.n_params for total in self.types)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(total.n_bytes for total in self.types)

    @property
    def label(self) -> str:
        """Architecture, size and commonest type, such as `llama 135M Q4_1`."""
        commonest = self.types[0].type_name if self.types else "empty"
        return f"{self.architecture} {short_count(self.n_params)} {commonest}"

    @classmethod
    def of(cls, file: "GGUFFile") -> "ModelFacts":
        """Collect the facts of an open file."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for info in file.tensors.values():
            groups.setdefault(info.type_name, []).append((prod(info.shape), info.nbytes))
        types = [
            TypeTotal(name, len(sizes), sum(n for n, _ in sizes), sum(b for _, b in sizes))
            for name, sizes in groups.items()
        ]
        types.sort(key=lambda total: -total.n_params)
        architecture = str(file.metadata.get("general.architecture", ""))
        name = str(file.metadata.get("general.name", ""))
        return cls(tuple(file.paths), architecture, name, tuple(types))

    @classmethod
    def of_ref(cls, ref: str, *, progress: bool) -> "ModelFacts":
        """Collect the facts of what a reference means, fetching it first if needed."""
        from jitllm.llm.loaders.gguf import GGUFFile
        from jitllm.llm.loaders.sources import resolve

        with GGUFFile(resolve(ref, progress=progress)) as file:
            return cls.of(file)


def short_count(n: int) -> str:
    """Return a count the way models are named: 135M, 1.5B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if n >= size:
            return f"{n / size:.1f}{unit}" if n < 10 * size else f"{n / size:.0f}{unit}"
    return str(n)


def size_text(n_bytes: int) -> str:
    """Return bytes as text: 93.49 MiB."""
    value, unit = float(n_bytes), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{n_bytes} B" if unit == "B" else f"{value:.2f} {unit}"
