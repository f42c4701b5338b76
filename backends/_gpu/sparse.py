"""What lowerings of sparse attention share: where a layer's cache is, and the choice by scores."""

from jitllm.backends._gpu.core import pages_of
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.base import PAGE_TOKENS, BackendUnavailable
from jitllm.backends.ir import Node
from jitllm.kernels import cache_types


def cells(lowering: Lowering, node: Node) -> tuple[Place, tuple[int, ...], list[int]]:
    """Return the place of a node's pages, the types of keys and values, and three words.

    The words are the bytes of a page, the number of the cache, and how many caches there are.

    Raises
    ------
    BackendUnavailable
        If the cache is of a quantized type, whose rows kernels do not read one by one.
    """
    pool = lowering.pools[node.attrs["cache"]]
    if any(cache_types.is_quantized(kind) for kind in cache_types.pair(pool.kv_dtype)):
        raise BackendUnavailable(
            f"{node.name}: sparse attention on a GPU gathers single keys and needs a cache of type "
            f"{', '.join(cache_types.FLOATS)}, got {pool.kv_dtype}; load the model with "
            'kv_dtype="f16"'
        )
    words = [pool.layer_bytes(node.attrs["layer"]), node.attrs["cache"], len(lowering.pools)]
    return pages_of(lowering, node), pool.kinds, words


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
