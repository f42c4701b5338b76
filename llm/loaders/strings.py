"""Arrays of strings from a file, decoded when they are read."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.errors import GGUFError


class StringArray(Sequence[str]):
    """A sequence of strings over the bytes of the file; nothing is decoded before it is asked for.

    A vocabulary of 262,144 tokens costs two flat buffers instead of as many Python objects.
    Tokens may be any bytes: `raw` and `raw_list` give them undecoded.

    Parameters
    ----------
    data : bytes
        The strings as the file has them, each after its 8-byte length.
    ends : ndarray of int64, shape (n,)
        Position in `data` just after each string.
    name : str
        Named in errors.
    """

    def __init__(self, data: bytes, ends: NDArray[np.int64], name: str) -> None:
        self._data = data
        self._ends = ends
        self._name = name

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return f"<StringArray {self._name}: {len(self)} strings>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StringArray):
            return self._data == other._data
        return isinstance(other, list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have no hash either

    def raw(self, index: int) -> bytes:
        """The bytes of one string.

        Raises
        ------
        IndexError
            If there is no such string.
        """
        count = len(self._ends)
        if not -count <= index < count:
            raise IndexError(f"{self._name}: expected an index below {count}, got {index}")
        index %= count
        start = int(self._ends[index - 1]) if index else 0
        return self._data[start + 8 : int(self._ends[index])]

    def raw_list(self) -> list[bytes]:
        """The bytes of all strings."""
        data, ends = self._data, self._ends.tolist()
        return [data[start + 8 : end] for start, end in zip([0, *ends], ends, strict=False)]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One string, or a list of them for a slice.

        Raises
        ------
        GGUFError
            If the bytes are not UTF-8; `raw` still gives them.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._decode(self.raw(index), index)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """All strings, decoded.

        Raises
        ------
        GGUFError
            If one of them is not UTF-8; the message names its index.
        """
        raw = self.raw_list()
        try:
            return [item.decode() for item in raw]
        except UnicodeDecodeError:
            return [self._decode(item, i) for i, item in enumerate(raw)]

    def _decode(self, item: bytes, index: int) -> str:
        try:
            return item.decode()
        except UnicodeDecodeError as error:
            raise GGUFError(
                f"{self._name}: expected UTF-8 in string {index}, got {item[:40]!r}; "
                "raw() and raw_list() give the bytes"
            ) from error
