"""Nested plain data with arrays in it, as JSON and arrays apart."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_KEY = "array"


def split(value: Any, prefix: str, arrays: dict[str, Array]) -> Any:
    """Return a value that JSON can say; its arrays go to `arrays`, named after their place.

    Parameters
    ----------
    value : mapping, list, tuple, str, number, None or array, nested
        Mappings have texts as keys.
    prefix : str
    arrays : dict
        Added to.
    """
    if isinstance(value, np.ndarray):
        arrays[prefix] = value
        return {_KEY: prefix}
    if isinstance(value, Mapping):
        return {key: split(item, f"{prefix}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [split(item, f"{prefix}.{i}", arrays) for i, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def join(value: Any, arrays: Callable[[str], Array]) -> Any:
    """Return what `split` was given; tuples come back as lists.

    Parameters
    ----------
    value : plain data
    arrays : callable
        Returns the array of a name.
    """
    if isinstance(value, list):
        return [join(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_KEY}:
        return arrays(str(value[_KEY]))
    return {key: join(item, arrays) for key, item in value.items()}
