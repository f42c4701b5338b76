"""How many pages and slots fit into a budget of bytes, which is then all that a model allocates."""

from dataclasses import dataclass

from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import Graph
from jitllm.kernels.cache_types import cell_bytes
from jitllm.llm.errors import BackendError
from jitllm.llm.state.reserve import Reserve

_LINE = 64  # bytes that backends may round a state up to
_LEAST_SLOTS = 2  # one to read, one to write


@dataclass(frozen=True)
class Sizes:
    """Pages of each cache, and slots for states."""

    pages: tuple[int, ...]
    slots: int


def bytes_of(sizes: Sizes, graph: Graph, kv_dtype: str) -> int:
    """Return the bytes that pages and slots of a graph take."""
    page_bytes = [PAGE_TOKENS * cell_bytes(kv_dtype, spec.layers) for spec in graph.caches]
    slot_bytes = sum(-(-4 * size // _LINE) * _LINE for size in graph.states)
    pages = zip(sizes.pages, page_bytes, strict=True)
    return sum(n * size for n, size in pages) + sizes.slots * slot_bytes


def sizes_within(
    n_bytes: int | None, graph: Graph, reserve: Reserve, kv_dtype: str, n_ctx: int
) -> Sizes:
    """Return pages and slots that take at most `n_bytes` together.

    They are shared out as one sequence needs them: as long as the context allows, and several times
    that if the bytes suffice, or else as long as they do.

    Parameters
    ----------
    n_bytes : int or None
        None for what `reserve` says.
    graph : Graph
    reserve : Reserve
    kv_dtype : str
    n_ctx : int

    Raises
    ------
    BackendError
        If not even a page of each cache fits.
    """
    if n_bytes is None:
        pages = tuple(reserve.pages(spec, n_ctx) for spec in graph.caches)
        return Sizes(pages, reserve.n_slots)

    def needed(n_tokens: int, n_slots: int) -> Sizes:
        pages = tuple(reserve.pages_used(spec, n_tokens) for spec in graph.caches)
        return Sizes(pages, n_slots)

    def count(sizes: Sizes) -> int:
        return bytes_of(sizes, graph, kv_dtype)

    whole = needed(n_ctx, reserve.slots_used)
    if (n_times := n_bytes / max(1, count(whole))) >= 1:
        return Sizes(tuple(int(n * n_times) for n in whole.pages), int(whole.slots * n_times))
    for n_slots in (reserve.slots_used, min(_LEAST_SLOTS, reserve.slots_used)):
        for n_tokens in range(-(-n_ctx // PAGE_TOKENS) * PAGE_TOKENS, 0, -PAGE_TOKENS):
            if count(sizes := needed(n_tokens, n_slots)) <= n_bytes:
                return sizes
    raise BackendError(
        f"expected cache_bytes of at least {count(sizes)}, for pages of {PAGE_TOKENS} tokens and "
        f"the states of one sequence; got {n_bytes}"
    )
