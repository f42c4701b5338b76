"""Sizes of sparse attention's work memory. No Numba here: plans are sized without it."""

from jitllm.kernels.cache_types import PAGE_TOKENS
from jitllm.kernels.cpu.attention_layout import padded, state_floats

TILE_HEADS = 16  # query heads of one unit of work, which share the gathered keys


def index_bytes(max_positions: int) -> int:
    """Return a thread's scratch for an index: a score for each position, and a page of products."""
    return 4 * (-(-max_positions // PAGE_TOKENS) + 8) * PAGE_TOKENS


def attention_bytes(dk: int, dv: int, cell_bytes: int) -> int:
    """Return a thread's scratch for the attention: queries, scores, states, gathered keys."""
    rows = TILE_HEADS * (padded(dk) + PAGE_TOKENS + 16 + state_floats(dv))
    return 4 * rows + -(-cell_bytes * PAGE_TOKENS * (dk + dv) // 64) * 64
