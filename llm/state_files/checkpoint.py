"""What the head of a record says about a checkpoint, checked and typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jitllm.llm.errors import StateError
from jitllm.llm.state_files.log import Record

KIND = "checkpoint"


@dataclass(frozen=True, slots=True)
class CacheHead:
    """One cache of a checkpoint.

    Attributes
    ----------
    window : int
        Positions a query sees; 0 for all.
    kv_dtype : str
    layers : tuple of (int, int, int)
        (n_kv_heads, dk, dv) of each layer.
    first : int
        The first cell that was there.
    """

    window: int
    kv_dtype: str
    layers: tuple[tuple[int, int, int], ...]
    first: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A sequence as it was at one time.

    Attributes
    ----------
    id : int
        Unique in its file, ascending; pruning may free the highest for the next.
    key : str
        Random: no other checkpoint, of any file, has it.
    parent : int or None
        The checkpoint that holds what this one does not repeat.
    label : str
    created : float
        Seconds since 1970.
    n_tokens : int
    n_done : int
        Tokens whose cells are written.
    kept, kept_cells : int
        How many leading tokens, and how many leading cells, are the parent's.
    caches : tuple of CacheHead
    blocks : mapping of int to (int, int)
        Which cache, and which of its layers, a block of the model has.
    is_whole : bool
        Whether cells of full attention were saved too.
    state_sizes : tuple of int
        Numbers of each recurrent or convolution state.
    states : tuple of int
        Numbers of tokens behind which states are kept.
    model : mapping
        Of which model it is: name, architecture, fingerprint.
    computed_by : mapping or None
        The model's settings; None where adapters, hooks or edits had changed something.
    sampler : mapping or None
        How the generation under way samples, and how far it is.
    record : Record
    """

    id: int
    key: str
    parent: int | None
    label: str
    created: float
    n_tokens: int
    n_done: int
    kept: int
    kept_cells: int
    caches: tuple[CacheHead, ...]
    blocks: Mapping[int, tuple[int, int]]
    is_whole: bool
    state_sizes: tuple[int, ...]
    states: tuple[int, ...]
    model: Mapping[str, Any]
    computed_by: Mapping[str, Any] | None
    sampler: Mapping[str, Any] | None
    record: Record

    @property
    def nbytes(self) -> int:
        """Bytes of its record: what it added to the file."""
        return self.record.nbytes

    def __str__(self) -> str:
        return f"checkpoint {self.id}" + (f" ({self.label!r})" if self.label else "")

    @classmethod
    def of(cls, record: Record) -> "Checkpoint":
        """Read a record's head.

        Raises
        ------
        StateError
            If something is missing, or is not what it should be.
        """
        head = _Head(record.head)
        found = cls(
            head.number("id"),
            head.get("key", str),
            None if record.head.get("parent") is None else head.number("parent"),
            head.get("label", str),
            float(head.get("created", (int, float))),
            head.number("n_tokens"),
            head.number("n_done"),
            head.number("kept"),
            head.number("kept_cells"),
            tuple(_cache(_Head(row)) for row in head.get("caches", list)),
            dict(_block(row) for row in head.get("blocks", list)),
            head.get("is_whole", bool),
            head.numbers("state_sizes"),
            head.numbers("states"),
            head.get("model", dict),
            head.get("computed_by", (dict, type(None))),
            head.get("sampler", (dict, type(None))),
            record,
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise StateError if the numbers contradict each other."""
        ok = self.kept_cells <= self.kept <= self.n_tokens and self.n_done <= self.n_tokens
        ok = ok and self.kept_cells <= self.n_done and all(n <= self.n_done for n in self.states)
        ok = ok and (self.parent is not None or not self.kept)
        ok = ok and (self.parent is None or self.parent < self.id)
        sizes = [len(cache.layers) for cache in self.caches]
        ok = ok and all(i < len(sizes) and layer < sizes[i] for i, layer in self.blocks.values())
        if not ok:
            raise StateError(f"{self}: its numbers contradict each other")


class _Head:
    """Typed reads of a JSON object."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise StateError(f"expected an object in a checkpoint's head, got {values!r:.80}")
        self._values = values

    def get(self, key: str, kind: Any) -> Any:
        value = self._values.get(key)
        if not isinstance(value, kind):
            raise StateError(f"a checkpoint's head: {key!r} is {value!r:.80}")
        return value

    def number(self, key: str) -> int:
        return _number(key, self.get(key, int))

    def numbers(self, key: str) -> tuple[int, ...]:
        return tuple(_number(key, n) for n in self.get(key, list))


def _number(key: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise StateError(f"a checkpoint's head: {key!r} is {value!r:.80}, no size")
    return value


def _three(key: str, row: Any) -> tuple[int, int, int]:
    if not isinstance(row, list) or len(row) != 3:
        raise StateError(f"a checkpoint's head: {key!r} has {row!r:.80}")
    a, b, c = (_number(key, n) for n in row)
    return a, b, c


def _block(row: Any) -> tuple[int, tuple[int, int]]:
    block, cache, layer = _three("blocks", row)
    return block, (cache, layer)


def _cache(head: _Head) -> CacheHead:
    layers = [_three("layers", row) for row in head.get("layers", list)]
    return CacheHead(
        head.number("window"), head.get("kv_dtype", str), tuple(layers), head.number("first")
    )
