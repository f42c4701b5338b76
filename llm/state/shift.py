"""How cached keys move to other positions: which of their columns rope turned, and how far.

Rope turns the key of position p by p times the frequency of each pair of columns, so a key that is
to stand n positions earlier is turned back by n (Su et al., "RoFormer", 2021, equation 16). What
the keys and values were computed from stays: they have seen tokens that are not there any more.
That is what llama.cpp computes too when it shifts a context.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Graph, Node, Value
from jitllm.llm.errors import StateError
from jitllm.llm.state.cells import Cells

Floats = npt.NDArray[np.float32]
Turns = Mapping[tuple[int, int], tuple["Turn", ...]]

_ENDS = ("matmul", "head_matmul", "embed", "experts")  # what is made of their inputs is made anew
_POSITIONS = ("rope_behind", "scale_by_position", "embed_positions")


class Turn(NamedTuple):
    """Columns of each head that rope turned.

    Attributes
    ----------
    start : int
        The first of them.
    kind : str
        "norm" or "neox", as in `jitllm.llm.graph.rope.Rotation`.
    frequencies : float32 [n_rot / 2]
        Radians per position.
    """

    start: int
    kind: str
    frequencies: Floats


def turns_of(graph: Graph) -> Turns:
    """Return what rope turned in the keys of each layer, by number of cache and layer.

    Layers without rope, which see positions by distance or not at all, have none.

    Raises
    ------
    StateError
        If the graph keeps something else, that belongs to a position for good.
    """
    if graph.states:
        raise _refused("recurrent states hold all the tokens they have read")
    if any(node.op == "embed_positions" for node in graph.nodes):
        raise _refused("learned embeddings of positions are part of every cell")
    makers = {value.id: node for node in graph.nodes for value in node.outputs}
    return dict(_turns(graph, makers))


def _turns(
    graph: Graph, makers: Mapping[int, Node]
) -> Iterator[tuple[tuple[int, int], tuple[Turn, ...]]]:
    for node in graph.nodes:
        if "layer" not in node.attrs:
            continue
        place = node.attrs["cache"], node.attrs["layer"]
        if node.op != "attention":
            raise _refused(f"{node.name} ({node.op}) keeps more than keys turned by rope")
        if place[0] < 0:
            raise _refused("the model sees a text as a whole and keeps nothing of it")
        if len(node.inputs) == 3:  # else it reads what another layer keeps
            _, k, v = node.inputs
            if _find(makers, v, node.attrs["v_head_dim"]):
                raise _refused(f"values of {node.name} are turned")
            yield place, _find(makers, k, node.attrs["head_dim"])


def _find(makers: Mapping[int, Node], x: Value, size: int) -> tuple[Turn, ...]:
    """Return which columns of heads of `size` rope turned on the way to x."""
    node = makers[x.id]
    if node.op in _ENDS:
        return ()
    if node.op == "scale" or _only_scales(node, size):
        return _find(makers, node.inputs[0], size)
    if node.op == "join_heads" and x.width == node.attrs["n_heads"] * size:
        return _find_joined(makers, node)
    is_plain = not any(_find(makers, y, size) for y in node.inputs)
    if node.op == "rope" and node.attrs["head_dim"] == size and is_plain:
        return (Turn(0, node.attrs["kind"], node.attrs["frequencies"]),)
    if node.op in (*_POSITIONS, "rope") or not is_plain:
        raise _refused(f"{node.name} ({node.op}) changes keys by position in another way than rope")
    return ()


def _only_scales(node: Node, size: int) -> bool:
    """Whether it is a norm over whole heads without weights, which turning does not change."""
    return node.op == "rms_norm" and not any(node.weights) and node.attrs["group"] == size


def _find_joined(makers: Mapping[int, Node], node: Node) -> tuple[Turn, ...]:
    a, b = node.inputs
    n_heads = node.attrs["n_heads"]
    sizes = a.width // n_heads, b.width // (1 if node.attrs["shared"] else n_heads)
    behind = (turn._replace(start=turn.start + sizes[0]) for turn in _find(makers, b, sizes[1]))
    return (*_find(makers, a, sizes[0]), *behind)


def _refused(reason: str) -> StateError:
    return StateError(
        f"expected a cache whose cells can move to other positions, got one that cannot: {reason}; "
        "let what follows be computed again: remove(..., recompute=True), context_shift=True"
    )


def remove_cells(
    cells: Cells, graph: Graph, start: int, stop: int, n_tokens: int
) -> Callable[[], None]:
    """Prepare to drop the cells start to stop - 1 of `n_tokens`; what is returned does it.

    Parameters
    ----------
    cells : Cells
    graph : Graph
        The model's.
    start, stop, n_tokens : int

    Raises
    ------
    StateError
        If what is behind them cannot move.
    BackendError
        If no page is free for cells that others hold too.
    """
    turns = turns_of(graph)
    if not cells.can_remove(start, stop, n_tokens):
        raise _refused(
            "a sliding window has dropped cells that are seen again when tokens are removed"
        )
    cells.begin_removal(start, stop, n_tokens)

    def turn(cache: int, layer: int, keys: Floats) -> Floats:
        n_heads = graph.caches[cache].layers[layer][0]
        return turned(keys, turns[cache, layer], n_heads, start - stop)

    return partial(cells.remove, start, stop, n_tokens, turn)


def turned(keys: Floats, turns: tuple[Turn, ...], n_heads: int, by: int) -> Floats:
    """Return keys as rope makes them for positions that are `by` later.

    Parameters
    ----------
    keys : float32 [n, G * D]
        Changed in place.
    turns : tuple of Turn
    n_heads : int
        G.
    by : int
        Positions; negative for earlier ones.

    Returns
    -------
    float32 [n, G * D]
    """
    heads = keys.reshape(len(keys), n_heads, -1)
    for start, kind, frequencies in turns:
        half = len(frequencies)
        angles = float(by) * frequencies.astype(np.float64)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        columns = heads[:, :, start : start + 2 * half]
        pairs = (slice(0, None, 2), slice(1, None, 2)) if kind == "norm" else (
            slice(0, half), slice(half, None)
        )  # fmt: skip
        x, y = columns[..., pairs[0]].copy(), columns[..., pairs[1]].copy()
        columns[..., pairs[0]] = x * cos - y * sin
        columns[..., pairs[1]] = x * sin + y * cos
    return keys
