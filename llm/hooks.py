"""Read and edit values inside a run by name: hooks, caches of activations, tables of points.

A hook is a function `f(activation, hook)`. `activation` is a writable float32 array: [rows, width],
[rows, heads, head_dim] where the name has heads, or [heads, queries, keys] for a pattern; there is
no batch axis. It may be changed in place, or an array of the same shape returned; None keeps it.
`hook.name` is the name and `hook.layer()` the layer's number. A prompt of more than 512 tokens
comes in pieces, and a hook is called for each.
"""

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Graph
from jitllm.llm.errors import HookError
from jitllm.llm.graph.hook_names import HookPoint, hook_points

Floats = npt.NDArray[np.float32]
HookFunction: TypeAlias = Callable[[Floats, "Hook"], Any]
NameFilter: TypeAlias = str | Iterable[str] | Callable[[str], bool]

_PATTERN = ".pattern"
_HEAD = ("name", "shape", "dtype", "bytes per token", "extra cost")


@dataclass(frozen=True, slots=True)
class Hook:
    """What a hook function is told about its place.

    Attributes
    ----------
    name : str
        The name it was asked for, or that matched.
    """

    name: str

    def layer(self) -> int:
        """Return the number of the layer; HookError if the point belongs to none."""
        for part in self.name.split(".")[1:2]:
            if part.isdigit():
                return int(part)
        raise HookError(f"expected a hook point of a layer, got {self.name!r}")


@dataclass(frozen=True, slots=True)
class HookInfo:
    """One row of the table of hook points.

    Attributes
    ----------
    name : str
    shape : str
        Axes; T counts tokens, O those whose logits are wanted.
    dtype : str
    bytes_per_token : int
        Of a copy, which `run_with_cache` keeps; of a pattern for each key.
    extra_cost : str
        What looking at it costs besides a copy.
    """

    name: str
    shape: str
    dtype: str
    bytes_per_token: int
    extra_cost: str

    def cells(self) -> tuple[str, ...]:
        """Return the row as texts."""
        size = str(self.bytes_per_token)
        return self.name, self.shape, self.dtype, size, self.extra_cost


class HookPoints(tuple[HookInfo, ...]):
    """All hook points of a model; prints as a table."""

    __slots__ = ()

    def names(self) -> list[str]:
        """Return the names."""
        return [info.name for info in self]

    def __repr__(self) -> str:
        rows = [_HEAD, *(info.cells() for info in self)]
        widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        from jitllm.llm.display import table_html

        return table_html(_HEAD, [info.cells() for info in self])


def describe(graph: Graph) -> HookPoints:
    """Return the table of all hook points of a graph."""
    values = graph.values() | (graph.encoder.values() if graph.encoder else {})
    heads = {f"{n.name}{_PATTERN}": n.attrs.get("n_heads", 1) for n in graph.all_nodes}
    return HookPoints(_info(point, values, heads) for point in hook_points(graph).values())


def _info(point: HookPoint, values: Mapping[str, Any], heads: Mapping[str, int]) -> HookInfo:
    if point.tap.endswith(_PATTERN):
        cost = "probabilities of all pairs of tokens are computed and kept"
        n_heads = heads[point.tap]
        return HookInfo(point.name, "[heads, T, keys]", "float32", 4 * n_heads, cost)
    value = values[point.tap]
    axes = [value.rows, value.width]
    if point.heads:
        axes = [value.rows, point.heads, value.width // point.heads]
    shape = f"[{', '.join(map(str, axes))}]"
    return HookInfo(point.name, shape, "float32", 4 * value.width, "none")


def select(points: Mapping[str, HookPoint], names: NameFilter) -> list[HookPoint]:
    """Return the points that a filter means, in the order of the model.

    Parameters
    ----------
    points : mapping
        All points by name.
    names : str, iterable of str, or callable
        A name, a pattern with * or ?, several of these, or a predicate on names.

    Raises
    ------
    HookError
        If a name or a pattern fits nothing.
    """
    if callable(names):
        return [point for name, point in points.items() if names(name)]
    wanted = [names] if isinstance(names, str) else list(names)
    found = {name for text in wanted for name in _matching(points, text)}
    return [point for name, point in points.items() if name in found]


def _matching(points: Mapping[str, HookPoint], text: str) -> list[str]:
    if not isinstance(text, str):
        raise HookError(f"expected the name of a hook point, got {type(text).__name__}")
    if text in points:
        return [text]
    found = fnmatch.filter(points, text) if set(text) & set("*?") else []
    if not found:
        near = difflib.get_close_matches(text, points, n=3)
        hint = f"near ones: {', '.join(near)}" if near else "see hook_points()"
        raise HookError(f"expected a hook point of this model, got {text!r}; {hint}")
    return found


class FunctionHooks:
    """Calls functions at hook points.

    A pattern or predicate that fits several names of one value calls the function once for it.

    Parameters
    ----------
    graph : Graph
    functions : iterable of (names, function)

    Attributes
    ----------
    taps : frozenset of str
        Names that backends know.
    """

    def __init__(self, graph: Graph, functions: Iterable[tuple[NameFilter, HookFunction]]) -> None:
        points = hook_points(graph)
        self._calls: dict[str, list[tuple[HookPoint, HookFunction]]] = {}
        for names, function in functions:
            if not callable(function):
                raise HookError(f"expected a function for {names!r}, got {function!r}")
            chosen: dict[str, HookPoint] = {}
            for point in select(points, names):
                chosen.setdefault(point.tap, point)
            for tap, point in chosen.items():
                self._calls.setdefault(tap, []).append((point, function))
        self.taps = frozenset(self._calls)

    def __call__(self, tap: str, values: Floats) -> None:
        """Call the functions of a tap, in the order they were given."""
        for point, function in self._calls[tap]:
            view = _split_heads(values, point)
            returned = function(view, Hook(point.name))
            if returned is not None and returned is not view:
                _put(_checked(returned, view, point.name), view, point.name)


def _split_heads(values: Floats, point: HookPoint) -> Floats:
    if not point.heads:
        return values
    # always a view: an axis is split, none are joined
    return values.reshape(len(values), point.heads, values.shape[1] // point.heads)


def _put(returned: npt.NDArray[Any], view: Floats, name: str) -> None:
    try:
        with np.errstate(over="raise"):
            view[...] = returned
    except FloatingPointError:
        raise HookError(
            f"hook {name!r}: expected numbers that float32 can hold, up to "
            f"{np.finfo(np.float32).max:.4g}, got {returned.dtype} beyond that"
        ) from None


def _checked(returned: Any, view: Floats, name: str) -> npt.NDArray[Any]:
    array = np.asarray(returned)
    if array.shape != view.shape or array.dtype.kind not in "fiu":
        raise HookError(
            f"hook {name!r}: expected None or numbers of shape {list(view.shape)}, got "
            f"{array.dtype} {list(array.shape)}; return the array that came in, changed"
        )
    return array


class ActivationRecorder:
    """Keeps copies of what passes by.

    Parameters
    ----------
    graph : Graph
    names : filter, optional
        As for `select`; without one, all of TransformerLens's names but the patterns.

    Attributes
    ----------
    taps : frozenset of str
    """

    def __init__(self, graph: Graph, names: NameFilter | None = None) -> None:
        points = hook_points(graph)
        if names is None:
            own = {point.tap for point in points.values()}
            self._points = [
                point
                for name, point in points.items()
                if name not in own and not point.tap.endswith(_PATTERN)
            ]
        else:
            self._points = select(points, names)
        self.taps = frozenset(point.tap for point in self._points)
        self._pieces: dict[str, list[Floats]] = {tap: [] for tap in self.taps}

    def __call__(self, tap: str, values: Floats) -> None:
        """Keep a copy."""
        self._pieces[tap].append(values.copy())

    def cache(self) -> "ActivationCache":
        """Return what was kept, the pieces of a long prompt joined."""
        whole = {tap: _join(tap, pieces) for tap, pieces in self._pieces.items() if pieces}
        return ActivationCache(
            {p.name: _split_heads(whole[p.tap], p) for p in self._points if p.tap in whole}
        )


def _join(tap: str, pieces: list[Floats]) -> Floats:
    if len(pieces) == 1:
        return pieces[0]
    if not tap.endswith(_PATTERN):
        return np.concatenate(pieces)
    n_keys = max(piece.shape[2] for piece in pieces)
    padded = [np.pad(p, ((0, 0), (0, 0), (0, n_keys - p.shape[2]))) for p in pieces]
    return np.concatenate(padded, axis=1)


class ActivationCache(Mapping[str, Floats]):
    """Activations by name, float32 arrays in the order of the model.

    Names of one value share one array.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    """

    def __init__(self, arrays: Mapping[str, Floats]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> Floats:
        if name in self._arrays:
            return self._arrays[name]
        near = difflib.get_close_matches(name, self._arrays, n=3)
        hint = f"near ones: {', '.join(near)}" if near else "pass it in names_filter"
        raise KeyError(f"{name!r} was not kept; {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, shared ones once."""
        bases = {id(a if a.base is None else a.base): a.nbytes for a in self._arrays.values()}
        return sum(bases.values())

    def __repr__(self) -> str:
        return f"<ActivationCache: {len(self)} activations, {self.nbytes} bytes>"

    def _repr_html_(self) -> str:
        from jitllm.llm.display import table_html

        rows = [(name, str(list(array.shape))) for name, array in self.items()]
        return table_html(("name", "shape"), rows)
