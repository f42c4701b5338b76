"""Sizes of what kernels exchange, for who plans memory: nothing here needs Numba."""

GROUP = 32  # columns of a scale of int8 activations
GROUP_BYTES = 40  # of them, with the scale and sums
HALF_BYTES = 64  # of them as float16

ELEMENTS = 256  # columns of a workgroup of `unary` and `binary`
KEPT_COLUMNS = 8192  # of a row that a workgroup can keep in registers

ROWS_OF_WARP, COLUMNS = 16, 256  # of attention: query heads of tokens, columns of values
MERGED_COLUMNS = 1024  # of values, at most, that parts are put together of
RECORD = 4  # floats behind the sums of a part: maximum, sum of weights, two of padding


def heads_of_tile(group: int) -> int:
    """Return how many of the `group` heads that share a key head a tile has of each token."""
    return min(group, ROWS_OF_WARP)


def tokens_of_tile(group: int) -> int:
    """Return of how many tokens a tile has rows."""
    return ROWS_OF_WARP // heads_of_tile(group)


def blocks_of(group: int, dv: int) -> tuple[int, int]:
    """Return how many warps share the heads, and the columns of values, of a token's key head."""
    return -(-group // ROWS_OF_WARP), -(-dv // COLUMNS)


def has_whole_chunks(dv: int) -> bool:
    """Return whether all 64 columns that a warp takes at a time are there."""
    return dv % min(max(dv, 64), COLUMNS) == 0 and dv % 64 == 0
