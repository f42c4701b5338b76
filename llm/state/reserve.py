"""How much a model reserves when it is loaded, and how much of it a sequence uses at most."""

from dataclasses import dataclass

from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.llm.state.pages import SLACK_PAGES, memory_bytes, pages_of, pool_pages
from jitllm.llm.state.slots import KEPT, N_SLOTS

MAX_TOKENS = 512
"""Most rows of one run."""

MAX_WHOLE = 4096
"""The same for models that must see a text as a whole."""

_LEAST_SLOTS = 8
_USED = KEPT + 2  # slots of a sequence
_HELD = 2  # sequences whose windows and states a device holds that takes the memory at once


def remembers(graph: Graph) -> bool:
    """Return whether a text can be continued: no attention is over the tokens of a run alone."""
    return not any(node.op == "attention" and node.attrs["cache"] < 0 for node in graph.nodes)


def run_rows(graph: Graph, n_ctx: int) -> int:
    """Return the most rows of one run of a graph; whole pages, unless it remembers nothing."""
    if remembers(graph):
        return min(MAX_TOKENS, pages_of(n_ctx) * PAGE_TOKENS)
    return min(MAX_WHOLE, n_ctx)


@dataclass(frozen=True)
class Reserve:
    """What an engine asks of its backend.

    Attributes
    ----------
    n_pages : int
        Of every cache.
    n_slots : int
        For states; 0 without any.
    max_tokens : int
        Rows of a run.
    max_source : int
        Tokens of a text that the graph's encoder reads; 0 without one.
    is_held : bool
        `Backend.holds_pools`.
    """

    n_pages: int
    n_slots: int
    max_tokens: int
    max_source: int
    is_held: bool = False

    @classmethod
    def of(cls, graph: Graph, n_ctx: int, kv_dtype: str, is_held: bool = False) -> "Reserve":
        """Decide for a graph; ValueError if `kv_dtype` does not fit its heads."""
        max_tokens = run_rows(graph, n_ctx)
        n_pages = pool_pages(graph.caches, n_ctx, max_tokens, kv_dtype, is_held)
        n_slots = _HELD * _USED * bool(graph.states) if is_held else _slots(graph.states)
        max_source = run_rows(graph.encoder, n_ctx) if graph.encoder else 0
        return cls(n_pages, n_slots, max_tokens, max_source, is_held)

    def pages(self, spec: CacheSpec, n_ctx: int) -> int:
        """Return the pages that a cache has unless there is a budget."""
        is_short = self.is_held and (spec.window or spec.cross)
        most = _HELD * self.pages_used(spec, n_ctx) if is_short else self.n_pages
        return min(self.n_pages, most)

    def pages_used(self, spec: CacheSpec, n_ctx: int) -> int:
        """Return the most pages of a cache that a sequence of `n_ctx` tokens holds at a time."""
        if spec.cross:
            return pages_of(self.max_source)
        if not spec.window:
            return pages_of(n_ctx)
        # rows run from any place of a page; what is out of the window is dropped after a run
        most = max(
            pages_of(start + self.max_tokens) - (start - spec.window) // PAGE_TOKENS
            for start in range(PAGE_TOKENS)
        )
        return min(pages_of(n_ctx), most + SLACK_PAGES)

    @property
    def slots_used(self) -> int:
        """Most slots that a sequence holds at a time: those kept, the current, the next."""
        return _USED if self.n_slots else 0


def _slots(sizes: tuple[int, ...]) -> int:
    """Return how many slots of states of these sizes a model has."""
    if not sizes:
        return 0
    return max(_LEAST_SLOTS, min(N_SLOTS, memory_bytes() // 4 // (4 * sum(sizes))))
