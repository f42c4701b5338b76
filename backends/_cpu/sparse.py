"""What ops of sparse attention share: where a layer's cache is, and the write to it."""

from typing import Any

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.plan import Buffer
from jitllm.backends.base import BackendUnavailable
from jitllm.backends.ir import Node
from jitllm.kernels import abi
from jitllm.kernels.cpu.sparse_layout import index_bytes


def place(lowering: Lowering, node: Node) -> tuple[dict[str, Any], Any]:
    """Return the words that say where a node's pages are, and what barriers know them by.

    Raises
    ------
    BackendUnavailable
        If the cache is of a type that the kernels of sparse attention do not read.
    """
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pool = lowering.pools[cache]
    if pool.kv_dtype not in ("f16", "f32"):
        raise BackendUnavailable(
            f"{node.name}: sparse attention on the CPU gathers single keys and needs a cache of "
            f'type f16 or f32, got {pool.kv_dtype}; load the model with kv_dtype="f16"'
        )
    words = {
        "pages": pool.address(layer), "page_bytes": pool.layer_bytes(layer), "cache": cache,
    }  # fmt: skip
    return words, ((cache, layer), 0, 1)


def write(lowering: Lowering, node: Node, k: Buffer, v: Buffer) -> None:
    """Emit the op that writes keys and values of the run's rows to their pages.

    Where the layer has no values, `v` is not read.
    """
    words, pages = place(lowering, node)
    pool = lowering.pools[node.attrs["cache"]]
    heads, dk, dv = pool.spec.layers[node.attrs["layer"]]
    lowering.planner.emit(
        abi.KV_WRITE, [k, v], [pages], cost=4 * heads * (dk + dv), params={"kv": pool.kv_dtype},
        k=k, ldk=k.stride, v=v, ldv=v.stride, n_kv_heads=heads, dk=dk, dv=dv, table_pages=0,
        segments=abi.SEGMENTS, **words,
    )  # fmt: skip


def max_positions(lowering: Lowering, node: Node) -> int:
    """Return the most positions that the node's cache can hold."""
    return int(lowering.pools[node.attrs["cache"]].n_pages) * abi.PAGE_TOKENS


def index(lowering: Lowering, node: Node, op: abi.Op, w: Buffer | None) -> None:
    """Emit the write of the index keys, and the op that chooses; makes the memory of the choice."""
    q, k = (lowering.buffer(value) for value in node.inputs[:2])
    write(lowering, node, k, k)  # no values: their heads have no columns
    attrs, (words, pages) = node.attrs, place(lowering, node)
    size = index_bytes(max_positions(lowering, node))
    scratch, out = lowering.take(size * lowering.n_threads), lowering.new(node.outputs[0])
    lowering.planner.emit(
        op, [q, pages, *([w] if w else [])], [out, scratch],
        cost=attrs["n_heads"] * attrs["head_dim"] * 400,
        params={"kv": lowering.pools[attrs["cache"]].kv_dtype}, q=q, ldq=q.stride, w=w or 0,
        ldw=w.stride if w else 0, n_heads=attrs["n_heads"], dk=attrs["head_dim"], out=out,
        ldo=out.stride, top_k=attrs["top_k"], block=attrs.get("block", attrs.get("stride", 1)),
        local=attrs.get("local", 0), scale=attrs.get("scale", 1.0), scratch=scratch,
        scratch_bytes=size, **words,
    )  # fmt: skip
    lowering.give(scratch)


# Choose positions of each row for sparse attention: see `kernels/cpu/sparse_index.py`. Factory
# parameter kv. `w` are the weights of heads of `positions`, whose stride
# is in `block`.
INDEX_FIELDS = (
    "q", "ldq", "w", "ldw", "n_heads", "dk", "pages", "page_bytes", "cache", "out", "ldo", "top_k",
    "block", "local", "scale:f32", "scratch", "scratch_bytes",
)  # fmt: skip
