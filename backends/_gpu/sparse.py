"""What lowerings of sparse attention share: where a layer's cache is, and the choice by scores."""

from collections.abc import Iterator
from contextlib import contextmanager

from jitllm.backends._gpu.core import pages_of, rotate_heads
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import Node
from jitllm.kernels import cache_types


def cells(lowering: Lowering, node: Node) -> tuple[Place, tuple[int, ...], list[int]]:
    """Return the place of a node's pages, the types of keys and values, and three words.

    The words are the bytes of a page, the number of the cache, and how many caches there are.
    """
    pool = lowering.pools[node.attrs["cache"]]
    words = [pool.layer_bytes(node.attrs["layer"]), node.attrs["cache"], len(lowering.pools)]
    return pages_of(lowering, node), pool.kinds, words


@contextmanager
def index_query(lowering: Lowering, node: Node) -> Iterator[Place]:
    """Give the place of an index's queries, rotated as its keys are, to what is emitted within."""
    attrs, q = node.attrs, lowering.place(node.inputs[0])
    pool = lowering.pools[attrs["cache"]]
    keys, _ = cache_types.rows_of(pool.kv_dtype, pool.spec.layers[attrs["layer"]])
    if not keys.hadamard:
        yield q
        return
    rotated = lowering.take("T", node.inputs[0].width)
    rotate_heads(lowering, q, rotated, attrs["n_heads"], attrs["head_dim"], keys.hadamard)
    yield rotated
    lowering.give(rotated)


def max_positions(lowering: Lowering, node: Node) -> int:
    """Return the most positions that a node's cache can hold."""
    return int(lowering.pools[node.attrs["cache"]].n_pages) * PAGE_TOKENS


def choose(
    lowering: Lowering, node: Node, scores: Place, heads: int, *, size: int, is_blocks: bool
) -> None:
    """Emit the choice by `scores`, of which each of `heads` has as many; they are given back."""
    out, top_k = lowering.new(node.outputs[0]), node.attrs["top_k"]
    lowering.emit(
        "index_choose", [Place("run", 0, 0), scores, out],
        [scores.stride, scores.stride // heads, out.stride, top_k], [out], groups=heads, rows="T",
        constants=(size, is_blocks),
    )  # fmt: skip
    lowering.give(scores)
