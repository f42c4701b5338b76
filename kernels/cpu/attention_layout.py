"""Sizes of attention's work memory. No Numba here: plans are sized without it."""

from jitllm.kernels.abi import PAGE_TOKENS

TILE_ROWS = 24  # query rows (token, head) of one unit of work
SPAN_PAGES = 8  # pages whose partial softmax is one term of the final sum
SPAN_TOKENS = SPAN_PAGES * PAGE_TOKENS


def padded(n: int) -> int:
    """Return n rounded up to whole vectors of 16."""
    return (n + 15) // 16 * 16


def state_floats(dv: int) -> int:
    """Return the floats of a row's softmax state: output [dv padded], maximum, sum."""
    return padded(dv) + 16


def private_floats(dk: int, dv: int) -> int:
    """Return the floats one thread needs: query, scores, sum of lanes and two states per row."""
    return TILE_ROWS * (padded(dk) + PAGE_TOKENS + 16 + 2 * state_floats(dv))


def scratch_bytes(
    dk: int, dv: int, *, n_heads: int, n_threads: int, max_positions: int, n_rows: int = 8
) -> int:
    """Return a thread's scratch size for `abi.ATTENTION`.

    Parameters
    ----------
    dk, dv : int
        Columns of a key and of a value head.
    n_heads, n_threads : int
    max_positions : int
        Longest cache.
    n_rows : int
        Up to how many tokens a run (few tokens, long caches) shares the spans of one row among
        threads. With less memory the kernel gives the same bits, on fewer threads.
    """
    spans = -(-max_positions // SPAN_TOKENS)
    shared = 4 * n_rows * n_heads * spans * state_floats(dv)
    own = 4 * private_floats(dk, dv)
    return own + -(-shared // (64 * n_threads)) * 64
