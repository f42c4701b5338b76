"""Sizes of attention's work memory. No Numba here: plans are sized without it."""

import numpy as np
import numpy.typing as npt

from jitllm.kernels.cache_types import PAGE_TOKENS, is_quantized, pair

TILE_ROWS = 24  # query rows (token, head) of one unit of work
SPAN_PAGES = 8  # pages whose partial softmax is one term of the final sum
SPAN_TOKENS = SPAN_PAGES * PAGE_TOKENS
# Both ends of a table of distances are repeated so often: 16 keys beyond its reach are one load.
TABLE_MARGIN = 16


def padded(n: int) -> int:
    """Return n rounded up to whole vectors of 16."""
    return (n + 15) // 16 * 16


def state_floats(dv: int) -> int:
    """Return the floats of a row's softmax state: output [dv padded], maximum, sum."""
    return padded(dv) + 16


def table_floats(reach: int) -> int:
    """Return the floats of a head's table: distances -reach to reach, and the margins."""
    return 2 * (reach + TABLE_MARGIN) + 1


def with_margins(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a table [H, 2 * reach + 1] as kernels read it: [H, table_floats(reach)]."""
    wide = np.pad(table, ((0, 0), (TABLE_MARGIN, TABLE_MARGIN)), mode="edge")
    return np.ascontiguousarray(wide, np.float32)


def private_floats(dk: int, dv: int) -> int:
    """Return the floats one thread needs: query, scores, sum of lanes and two states per row."""
    return TILE_ROWS * (padded(dk) + PAGE_TOKENS + 16 + 2 * state_floats(dv))


def page_floats(dk: int, dv: int, kv: str) -> int:
    """Return the floats for a head's page of a cache of type `kv`: of what is quantized in it."""
    keys, values = map(is_quantized, pair(kv))
    return PAGE_TOKENS * (dk * keys + dv * values)


def scratch_bytes(
    dk: int,
    dv: int,
    *,
    n_heads: int,
    n_threads: int,
    max_positions: int,
    n_rows: int = 8,
    kv: str = "f16",
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
    kv : str
        Type of the cache.
    """
    spans = -(-max_positions // SPAN_TOKENS)
    shared = 4 * n_rows * n_heads * spans * state_floats(dv)
    own = 4 * (private_floats(dk, dv) + page_floats(dk, dv, kv))
    return own + -(-shared // (64 * n_threads)) * 64
