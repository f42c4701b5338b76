"""Norms, rotation and the write of cells in one dispatch, where attention alone reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jitllm.backends._gpu import core as gpu_core
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends.ir import Node, Value
from jitllm.kernels import cache_types

if TYPE_CHECKING:
    from jitllm.backends._cuda.lower import CudaLowering

_WARPS = 4  # of a workgroup, each for a head


@dataclass(frozen=True, slots=True)
class Chain:
    """What makes queries or keys of `source`: a norm of each head, if there is one, and a rope."""

    source: Value
    norm: Node | None
    rope: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in order."""
        return (self.norm, self.rope) if self.norm else (self.rope,)


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads that an attention reads first."""

    attention: Node
    queries: Chain
    keys: Chain

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes but the attention."""
        return (*self.queries.nodes, *self.keys.nodes)


def find_heads(lowering: "CudaLowering") -> dict[str, Heads]:
    """Return what one dispatch can do, by the name of the node that comes first."""
    order = {node.name: i for i, node in enumerate(lowering.graph.nodes)}
    makers = {out.id: node for node in lowering.graph.nodes for out in node.outputs}
    return {
        min((node.name for node in heads.nodes), key=order.__getitem__): heads
        for heads in _candidates(lowering, makers)
        if _is_ready(heads, makers, order) and _is_alike(heads)
    }


def _candidates(lowering: "CudaLowering", makers: dict[int, Node]) -> Iterator[Heads]:
    for node in lowering.graph.nodes:
        if node.op != "attention" or len(node.inputs) != 3 or node.attrs["cache"] < 0:
            continue
        types = cache_types.pair(lowering.pools[node.attrs["cache"]].kv_dtype)
        if any(cache_types.is_quantized(kind) for kind in types):
            continue
        queries, keys = (_chain(lowering, value, makers) for value in node.inputs[:2])
        if queries and keys and f"{node.name}.pattern" not in lowering.taps:
            yield Heads(node, queries, keys)


def _chain(lowering: "CudaLowering", value: Value, makers: dict[int, Node]) -> Chain | None:
    """Return what makes a value, if nobody else sees any of it."""

    def maker(value: Value, op: str) -> Node | None:
        node = makers.get(value.id)
        if not node or node.op != op or node.name in lowering.taps:
            return None
        return node if len(lowering.readers(value)) == 1 else None

    rope = maker(value, "rope")
    if not rope:
        return None
    source = rope.inputs[0]
    norm = maker(source, "rms_norm")
    if norm and norm.attrs["group"] == rope.attrs["head_dim"] and norm.weights[0]:
        return Chain(norm.inputs[0], norm, rope)
    return Chain(source, None, rope)


def _is_ready(heads: Heads, makers: dict[int, Node], order: dict[str, int]) -> bool:
    """Whether all that the dispatch reads is there when the first of its nodes comes."""
    read = heads.queries.source, heads.keys.source, heads.attention.inputs[2]
    first = min(order[node.name] for node in heads.nodes)
    return all(value.id in makers and order[makers[value.id].name] < first for value in read)


def _is_alike(heads: Heads) -> bool:
    """Whether queries and keys are treated alike, and are as wide as the attention's heads."""
    a, b = heads.queries, heads.keys
    if (a.norm is None) != (b.norm is None) or (a.norm and b.norm and _eps(a.norm) != _eps(b.norm)):
        return False
    head_dim = heads.attention.attrs["head_dim"]
    return _turn(a.rope) == _turn(b.rope) and a.rope.attrs["head_dim"] == head_dim


def _eps(norm: Node) -> Any:
    return norm.attrs["eps"]


def _turn(rope: Node) -> tuple[Any, ...]:
    words = (rope.attrs[name] for name in ("kind", "head_dim", "n_rot", "magnitude"))
    return *words, rope.attrs["frequencies"].tobytes()


def emit_heads(lowering: "CudaLowering", heads: Heads) -> None:
    """Emit all that attention needs of queries, keys and values; their nodes are done then."""
    node, rope, norms = heads.attention, heads.queries.rope, (heads.queries.norm, heads.keys.norm)
    q, k, v = (lowering.place(x) for x in (heads.queries.source, heads.keys.source, node.inputs[2]))
    y, pages = lowering.new(node.inputs[0]), gpu_core.pages_of(lowering, node)
    attrs, pool = node.attrs, lowering.pools[node.attrs["cache"]]
    n_kv_heads, dk, dv = pool.spec.layers[attrs["layer"]]
    key_bytes, head_bytes = pool.head_bytes(attrs["layer"])
    gains = [lowering.vector(norm.weights[0]) if norm else None for norm in norms]
    eps = float(_eps(norms[0])) if norms[0] else 0.0
    lowering.emit(
        "rope_keep",
        [Place("run", 0, 0), q, k, v, y, pages, *gains, gpu_core.angles_of(lowering, rope)],
        [q.stride, k.stride, v.stride, y.stride, attrs["n_heads"], n_kv_heads, dk, dv,
         rope.attrs["n_rot"], head_bytes, key_bytes, pool.layer_bytes(attrs["layer"]),
         attrs["cache"], len(lowering.pools), float(rope.attrs["magnitude"]), eps],
        [y, pages], groups=-(-(attrs["n_heads"] + 2 * n_kv_heads) // _WARPS), rows="T",
        constants=(*pool.kinds, rope.attrs["kind"] == "neox", norms[0] is not None),
    )  # fmt: skip
    lowering.kept.add(node.name)
    lowering.done |= {each.name for each in heads.nodes}
    for each in heads.keys.nodes:  # attention asks for a place of keys, and does not read it
        lowering.share(each.outputs[0], each.inputs[0], 0)
