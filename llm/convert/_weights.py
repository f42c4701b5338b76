"""Weights that are read when they are written: one tensor at a time is in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

_AT_ONCE = 1 << 22  # values converted at a time
_LARGEST = {"F32": np.inf, "BF16": np.inf}  # other types have float16 numbers or scales


@dataclass(frozen=True)
class Weight:
    """A tensor to come.

    Attributes
    ----------
    dtype : str
        "F32", "F16" or "BF16"; NumPy has no bfloat16, so arrays of it are uint16.
    shape : tuple of int
    parts : sequence of functions
        Each reads an array; one after the other they are the tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Callable[[], Array], ...]

    def array(self) -> Array:
        """Read all of it, as it is stored."""
        arrays = [part() for part in self.parts]
        whole = arrays[0] if len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])
        return whole.reshape(self.shape)

    def floats(self) -> Floats:
        """Read all of it as float32."""
        return _as_float32(self.dtype, self.array())

    def moved(self, move: Callable[[Array], Array]) -> "Weight":
        """Return the weight with elements in other places, or fewer of them.

        Parameters
        ----------
        move : function
            Of an array; must not compute with its elements.
        """
        # zeros that take no memory tell the new shape without reading anything
        shape = move(np.broadcast_to(np.zeros((), np.uint16), self.shape)).shape
        return Weight(self.dtype, shape, (lambda: move(self.array()),))

    def computed(self, function: Callable[[Array], Array]) -> "Weight":
        """Return the weight with elements of the same number put through a function.

        Parameters
        ----------
        function : function
            Of an array: float16 for "F16", else float32.
        """
        if self.dtype == "F16":
            return Weight("F16", self.shape, (lambda: function(self.array()),))
        return Weight("F32", self.shape, (lambda: function(self.floats()),))

    def as_type(self, type_name: str) -> Iterator[bytes]:
        """Yield the data in a type of GGUF.

        Raises
        ------
        ModelFormatError
            If the type cannot hold a value, or one is not finite.
        """
        for part in self.parts:
            array = part()
            rows = array.reshape(-1, self.shape[-1] if self.shape else 1)
            step = max(1, _AT_ONCE // max(1, rows.shape[1]))
            for start in range(0, len(rows), step):
                piece = rows[start : start + step]
                if self.dtype == type_name:
                    yield piece.tobytes()
                else:
                    yield _encoded(_as_float32(self.dtype, piece), type_name)


def constant(values: Sequence[float]) -> Weight:
    """Return a weight of known float32 values in one dimension."""
    array = np.array(values, np.float32)
    return Weight("F32", array.shape, (lambda: array,))


def stacked(weights: Sequence[Weight]) -> Weight:
    """Return weights of one shape and type with a new first dimension, such as experts.

    Raises
    ------
    ModelFormatError
        If they differ in shape or type.
    """
    first = weights[0]
    if any((w.shape, w.dtype) != (first.shape, first.dtype) for w in weights):
        kinds = sorted({f"{w.dtype} {w.shape}" for w in weights})
        raise ModelFormatError(f"expected experts of one shape and type, got {', '.join(kinds)}")
    parts = tuple(part for weight in weights for part in weight.parts)
    return Weight(first.dtype, (len(weights), *first.shape), parts)


def n_values(weight: Weight) -> int:
    """Return how many values a weight has."""
    return prod(weight.shape)


def _as_float32(dtype: str, array: Array) -> Floats:
    if dtype == "BF16":
        return formats.dequantize(dtype, np.ascontiguousarray(array).view(np.uint8), array.shape)
    return array.astype(np.float32, copy=False)


def _encoded(values: Floats, type_name: str) -> bytes:
    if not (np.abs(values) <= _LARGEST.get(type_name, 65504)).all():
        raise ModelFormatError(
            f"expected finite weights that {type_name} can hold, got larger ones, infinite ones "
            "or NaN; choose another type, or fetch the model again"
        )
    return formats.quantize(type_name, values).tobytes()
