"""What backends run: graphs of named nodes over float32 rows.

A value is a float32 array of `width` columns. Its rows are counted by `rows`: "T", the tokens of a
run; "O", the positions whose logits are wanted; "E", token-expert pairs (T times the experts used).
Sizes that change from run to run are no part of the graph, so one graph serves all runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """One array of a graph: `name` is its hook point, `id` its number in the graph."""

    id: int
    name: str
    rows: str
    width: int


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        Name of the operation; `llm/graph/builder.py` documents each.
    name : str
        Unique name, e.g. "blk.3.attn_norm"; also the name of its (first) output.
    inputs : tuple of Value
    outputs : tuple of Value
    weights : tuple of str
        GGUF tensor names; "" where an optional weight is absent.
    attrs : mapping
        Static parameters: numbers, strings, tuples and NumPy arrays.
    """

    op: str
    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    weights: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all weights that it reads, those of adapters of experts too."""
        adapters = (each for each in self.attrs.get("adapters", ()) if each)
        names = (name for a, b, _ in adapters for name in (a, b))
        return (*(name for name in self.weights if name), *names)


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Keys and values of the attention layers that remember the same positions.

    Attributes
    ----------
    window : int
        Positions a query sees, itself included; 0 for all.
    layers : tuple of (int, int, int)
        (n_kv_heads, dk, dv) of each layer of this cache, in order.
    cross : bool
        The positions are those of the text that `Graph.encoder` read; its nodes `keep` write the
        cells, and attention with the attribute `cross` sees them all.
    """

    window: int
    layers: tuple[tuple[int, int, int], ...]
    cross: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in execution order; the last node's output is the logits, an "O" value.

    A graph whose last node is `select_outputs` is an encoder: hidden states take the place of the
    logits, and `vocab_size` is their width. It has no caches, and runs a text as a whole.

    `states` are the float32 numbers of each recurrent or convolution state: what a layer keeps of
    a sequence in memory of fixed size. A node with the attribute `state` has that one.

    `encoder` is a graph to run on another text first, one with the same caches: it fills those of
    `cross`. Names differ between the two.

    `hidden` names the value [T, n] that blocks which predict further tokens read; "" if none do.

    `n_ctx` are the most positions of a sequence, 0 where nobody says: room for page tables.
    """

    nodes: tuple[Node, ...]
    caches: tuple[CacheSpec, ...]
    vocab_size: int
    states: tuple[int, ...] = ()
    encoder: "Graph | None" = None
    hidden: str = ""
    n_ctx: int = 0

    @property
    def all_nodes(self) -> tuple[Node, ...]:
        """The nodes, those of the encoder first."""
        return (self.encoder.nodes if self.encoder else ()) + self.nodes

    @property
    def output(self) -> Value:
        """The logits."""
        return self.nodes[-1].outputs[0]

    @property
    def is_encoder(self) -> bool:
        """Whether the last value is hidden states."""
        return self.nodes[-1].op == "select_outputs"

    def taps(self) -> frozenset[str]:
        """Return the names of all hook points, those of attention probabilities too."""
        patterns = (f"{node.name}.pattern" for node in self.nodes if node.op == "attention")
        return frozenset([*self.values(), *patterns])

    def values(self) -> dict[str, Value]:
        """Return every value by name: the hook points. Those without columns are none."""
        values = (value for node in self.nodes for value in node.outputs)
        return {value.name: value for value in values if value.width}
