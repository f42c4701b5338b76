"""How a tiny model of tests differs from one of the conformance set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """Changes to a model of the conformance set.

    Attributes
    ----------
    base : str
        Its name there.
    metadata : mapping
        New values of keys, without the architecture's prefix; None removes a key.
    n_layers : int
        Layers, alike unless `layers` says more.
    layers : tuple of int
        The layer of the base that each layer is like; layer 0 where this is empty.
    without : str
        Regular expression of tensors to leave out.
    tensors : mapping of str to shape
        Tensors to add or replace, NumPy order; "{i}" in a name makes one for each layer.
    factors : mapping of str to (float, float)
        One-dimensional tensors to set to evenly spaced values from the first to the second.
    """

    base: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    n_layers: int = 2
    layers: tuple[int, ...] = ()
    without: str = "$^"
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
