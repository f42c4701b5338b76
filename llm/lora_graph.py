"""A graph with LoRA adapters in it: thin products beside those of the model's matrices.

All matrices that read one value share the first product: the adapters' `a` stand below each other,
each matrix's in columns of their own, padded to whole vectors. What they give is multiplied by the
adapters' scales, which stay variables, and goes through each matrix's `b`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.backends.base import Weight
from jitllm.backends.ir import Graph, Node, Value
from jitllm.llm.graph.rewrite import EXPERTS, open_experts

Floats = npt.NDArray[np.float32]
ShapeOf = Callable[[str], tuple[int, ...]]

EMBEDDINGS, KINDS = "token_embd.weight", "token_types.weight"
_COLUMNS = 16  # parts of a value begin at multiples of it


class Factors(NamedTuple):
    """The two matrices of an adapter, float32.

    `a` is (rank, K) and `b` (N, rank) for a matrix (N, K), with experts before these for a stack of
    them. For embeddings (V, n), whose rows are chosen, `a` is (V, rank) and `b` (n, rank).
    """

    a: Floats
    b: Floats

    @property
    def rank(self) -> int:
        """Columns of b."""
        return int(self.b.shape[-1])

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` if this is not for a tensor of a shape."""
        *experts, n, k = shape if len(shape) > 1 else (0, *shape)
        expected = (*experts, self.rank, k), (*experts, n, self.rank)
        if name == EMBEDDINGS:
            expected = (n, self.rank), (k, self.rank)
        if (self.a.shape, self.b.shape) != expected:
            raise ValueError(
                f"{name!r}: expected an adapter of shapes {expected[0]} and {expected[1]}, got "
                f"{self.a.shape} and {self.b.shape}; it is for another model"
            )


class Part(NamedTuple):
    """One adapter in a graph.

    Attributes
    ----------
    factors : mapping of str to Factors
        By the name of the matrix's tensor.
    alpha : float
        0 for products that are added as they are.
    """

    factors: Mapping[str, Factors]
    alpha: float

    def gain(self, name: str) -> float:
        """What the products of one matrix are multiplied by at scale 1."""
        return self.alpha / self.factors[name].rank if self.alpha else 1.0


class _Place(NamedTuple):
    """`gain[start:stop]` is the scale of the adapter `part` times `factor`."""

    part: int
    gain: Floats
    start: int
    stop: int
    factor: float


@dataclass
class Adapted:
    """A graph with adapters, and what belongs to it.

    Attributes
    ----------
    graph : Graph
    weights : list of Weight
        To be added to the backend.
    places : list
        Where the scales are.
    """

    graph: Graph
    weights: list[Weight] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)

    def set_scale(self, part: int, scale: float) -> None:
        """Set the scale of an adapter, by its place in the sequence that `adapt` got."""
        for place in self.places:
            if place.part == part:
                place.gain[place.start : place.stop] = scale * place.factor


def adapt(graph: Graph, parts: Sequence[Part], shape_of: ShapeOf, prefix: str) -> Adapted:
    """Return a graph that adds adapters, each of scale 0.

    Parameters
    ----------
    graph : Graph
    parts : sequence of Part
    shape_of : callable
        Returns the shape of a tensor of the model; asked for embeddings and experts.
    prefix : str
        Of the names of new weights.

    Raises
    ------
    ValueError
        If an adapter is for another model, or for a tensor that no product reads.
    """
    wanted = dict.fromkeys(name for part in parts for name in part.factors)
    known = {name for node in graph.all_nodes for name in adaptable(node)}
    if "inp_types" not in graph.values():
        known.discard(KINDS)
    missing = wanted.keys() - known
    if missing:
        raise ValueError(
            f"expected adapters of matrices that the model multiplies by, got one of "
            f"{min(missing)!r}; it is for another model"
        )
    adapted, encoder = Adapted(graph), graph.encoder
    if encoder:
        encoder = _Rewriter(encoder, adapted, parts, shape_of, prefix).graph()
    rewriter = _Rewriter(graph, adapted, parts, shape_of, prefix)
    adapted.graph = replace(rewriter.graph(), encoder=encoder)
    return adapted


def adaptable(node: Node) -> tuple[str, ...]:
    """Return the names of the weights of a node that an adapter can be for."""
    if node.op in EXPERTS:
        return tuple(filter(None, node.weights[:3]))
    # tied to the embeddings, an output matrix stays: PEFT adapts what is looked up, or both apart
    is_product = node.op == "matmul" and node.weights[0] != EMBEDDINGS
    if node.op == "embed" and node.weights[0] == EMBEDDINGS:
        return EMBEDDINGS, KINDS
    return node.weights[:1] if is_product else ()


class _Stack(NamedTuple):
    """a and b of all adapters of a matrix, and of each which it is, its rank and its factor."""

    a: Floats
    b: Floats
    whose: list[tuple[int, int, float]]

    @property
    def rank(self) -> int:
        """Of all together, padding included."""
        return int(self.b.shape[-1])


class _Rewriter:
    def __init__(
        self,
        graph: Graph,
        adapted: Adapted,
        parts: Sequence[Part],
        shape_of: ShapeOf,
        prefix: str,
    ) -> None:
        self._graph, self._adapted, self._parts = graph, adapted, parts
        self._shape_of, self._prefix = shape_of, prefix
        self._nodes: list[Node] = []
        self._n_values = 1 + max(value.id for node in graph.nodes for value in node.outputs)
        self._bases: dict[str, Value] = {}  # what a product gives without adapters, by its name
        self._low: dict[str, Value] = {}  # by the name of the product that reads it
        self._stacks: dict[str, _Stack] = {}
        self._scales = scales_behind(graph)
        self._shapes: dict[str, tuple[int, ...]] = {}  # those that the graph knows
        self._readers: dict[int, list[Node]] = {}  # products that are adapted, by their input
        for node in graph.nodes:
            if node.op == "matmul" and self._is_adapted(node):
                (x,), (y,) = node.inputs, node.outputs
                self._shapes[node.weights[0]] = y.width, x.width
                self._readers.setdefault(x.id, []).append(node)

    def graph(self) -> Graph:
        """Return the graph with adapters."""
        for node in self._graph.nodes:
            self._add(node)
        return replace(self._graph, nodes=tuple(self._nodes))

    def _add(self, node: Node) -> None:
        """Take over a node, with what adapters add to it."""
        if not self._is_adapted(node):
            self._nodes.append(node)
        elif node.op in EXPERTS:
            self._add_experts(node)
        else:
            low = self._lookup(node) if node.op == "embed" else self._below(node)
            self._add_product(node, low)

    def _is_adapted(self, node: Node) -> bool:
        return any(name in part.factors for name in adaptable(node) for part in self._parts)

    def _add_product(self, node: Node, low: Value) -> None:
        """Put b's product of `low` before its sum with the node's own, which has its name."""
        (out,), name = node.outputs, node.name
        base = self._bases[name]
        weight = self._weight(f"{name}.b", self._stacked(node.weights[0]).b)
        more = self._node("matmul", f"{name}.lora", (low,), out.width, (weight, ""))
        self._nodes.append(Node("add", name, (base, more), (out,)))

    def _add_base(self, node: Node) -> None:
        (out,), name = node.outputs, f"{node.name}.base"
        self._bases[node.name] = self._value(name, out.rows, out.width)
        self._nodes.append(replace(node, name=name, outputs=(self._bases[node.name],)))

    def _below(self, node: Node) -> Value:
        """The value that b of a product reads: columns of what all readers of its input share."""
        if node.name not in self._low:
            self._share(node.inputs[0])
        return self._low[node.name]

    def _share(self, x: Value) -> None:
        readers = self._readers[x.id]
        for node in readers:  # together with the first thin product: threads need not wait
            self._add_base(node)
        stacks = [self._stacked(node.weights[0]) for node in readers]
        weight = self._weight(f"{x.name}.a", np.concatenate([stack.a for stack in stacks]))
        scales = [self._scales.get(node.weights[0], (1.0,))[0] for node in readers]
        gain = self._gain(stacks, scales)
        low = self._node("matmul", f"{x.name}.lora_a", (x,), len(gain), (weight, ""))
        low = self._node("gain", f"{x.name}.lora_gain", (low,), len(gain), (), {"gain": gain})
        start = 0
        for node, stack in zip(readers, stacks, strict=True):
            part, stop = low, start + stack.rank
            if len(readers) > 1:
                attrs = {"start": start, "stop": stop}
                part = self._node("columns", f"{node.name}.lora_in", (low,), stack.rank, (), attrs)
            self._low[node.name] = part
            start = stop

    def _lookup(self, node: Node) -> Value:
        self._add_base(node)
        stack = self._stacked(node.weights[0])
        gain = self._gain([stack])
        low = self._value(f"{node.name}.lora_a", node.outputs[0].rows, len(gain))
        weight = self._weight(f"{node.name}.a", stack.a)
        self._nodes.append(replace(node, name=low.name, outputs=(low,), weights=(weight,)))
        attrs = {"gain": gain}
        return self._node("gain", f"{node.name}.lora_gain", (low,), len(gain), (), attrs)

    def _add_experts(self, node: Node) -> None:
        adapters: list[tuple[str, str, Floats] | None] = [None, None, None]
        for i, name in enumerate(node.weights[:3]):
            if any(name in part.factors for part in self._parts):
                stack, kind = self._stacked(name), f"{node.name}.{('gate', 'up', 'down')[i]}"
                a, b = self._weight(f"{kind}.a", stack.a), self._weight(f"{kind}.b", stack.b)
                adapters[i] = a, b, self._gain([stack])
        self._nodes.append(open_experts(node, adapters=tuple(adapters)))

    def _stacked(self, name: str) -> "_Stack":
        if name not in self._stacks:
            pieces = list(self._pieces(name))
            axis = -1 if name == EMBEDDINGS else -2
            a = _padded(np.concatenate([each.a for _, each, _ in pieces], axis), axis)
            b = _padded(np.concatenate([each.b for _, each, _ in pieces], -1), -1)
            whose = [(i, each.rank, factor) for i, each, factor in pieces]
            self._stacks[name] = _Stack(a, b, whose)
        return self._stacks[name]

    def _pieces(self, name: str) -> Iterator[tuple[int, Factors, float]]:
        """Yield the adapters of a matrix: which, its factors, and what they are multiplied by."""
        for i, part in enumerate(self._parts):
            if name in part.factors:
                part.factors[name].check(name, self._shapes.get(name) or self._shape_of(name))
                yield i, part.factors[name], part.gain(name)
            if name == EMBEDDINGS and KINDS in part.factors:
                # every token is of kind 0: the same is added to each token's embedding
                kinds = part.factors[KINDS]
                kinds.check(KINDS, self._shape_of(KINDS))
                same = np.tile(kinds.b[0], (self._shape_of(name)[0], 1))
                yield i, Factors(same, kinds.a.T), part.gain(KINDS)

    def _gain(self, stacks: Sequence["_Stack"], scales: Sequence[float] = (1.0,)) -> Floats:
        """Return the scales of columns, 0 at first, and note whose they are."""
        gain, first = np.zeros(sum(stack.rank for stack in stacks), np.float32), 0
        for stack, scale in zip(stacks, scales, strict=True):
            start = first
            for part, rank, factor in stack.whose:
                self._adapted.places.append(
                    _Place(part, gain, start, start + rank, factor / float(scale))
                )
                start += rank
            first += stack.rank
        return gain

    def _weight(self, name: str, values: Floats) -> str:
        """Note a new weight, in half precision if that loses nothing; returns its name."""
        name, kind = f"{self._prefix}{name}", "F32"
        with np.errstate(over="ignore"):
            half = values.astype("<f2")
        if np.array_equal(half.astype(np.float32), values):
            values, kind = half, "F16"
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        self._adapted.weights.append(Weight(name, kind, values.shape, data))
        return name

    def _value(self, name: str, rows: str, width: int) -> Value:
        self._n_values += 1
        return Value(self._n_values - 1, name, rows, width)

    def _node(
        self, op: str, name: str, inputs: tuple[Value, ...], width: int,
        weights: tuple[str, ...] = (), attrs: Mapping[str, Any] | None = None,
    ) -> Value:  # fmt: skip
        value = self._value(name, inputs[0].rows, width)
        self._nodes.append(Node(op, name, inputs, (value,), weights, attrs or {}))
        return value


def _padded(array: Floats, axis: int) -> Floats:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % _COLUMNS)
    return np.pad(array, widths)


def scales_behind(graph: Graph) -> dict[str, Floats]:
    """Return what a model multiplies products with its matrices by: one number, or one an expert.

    Such a tensor `.scale` belongs to the type of the weights, an adapter to the matrix that they
    stand for: what is added to the product must not be scaled.
    """
    scales: dict[str, Floats] = {}
    products = {node.outputs[0].name: node for node in graph.all_nodes if node.op == "matmul"}
    for node in graph.all_nodes:
        product = products.get(node.inputs[0].name) if node.op == "scale" else None
        if product is not None and product.name.endswith(".matmul") and node.attrs["factor"]:
            scales[product.weights[0]] = np.array([node.attrs["factor"]], np.float32)
        if node.op in EXPERTS:
            each = zip(node.weights, node.attrs["scales"], strict=False)
            scales |= {name: values for name, values in each if values is not None}
    return scales
