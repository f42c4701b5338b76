"""Products of many rows with packed weights, y = x W^T, on tensor cores, int8 times int8.

One step of a tensor core is 16 rows of W times 8 rows of x times a group of 32 columns: its sums
are exact integers, to be scaled before they are added to others. Data first: for 32 outputs and a
group a warp loads 512 bytes (4-bit codes), of x 40 bytes a row; see `_tiles`.

Scaling is what takes the time: a step leaves each thread 4 sums, for which it needs 8 instructions,
12 with an offset. Sums become float32 without a conversion: they start from the bits of 1.5 * 2^23,
which the product with the scale of W takes off again (exactly: the scale has few digits). GPUs with
fast float16 take `matmul_half` for 64 rows; docs/CUDA.md has the numbers.
"""

from jitllm.kernels.cuda import _tiles
from jitllm.kernels.cuda._operands import codes

THREADS = _tiles.THREADS


def matmul(tokens, split, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tokens` rows of x at a time: 8, 16, 32 or 64.

    `split` warps (1, 2, 4; at most 128 / tokens, and 1 if that is 2) share 32 outputs, and have K's
    groups of 32 columns in turn. Grid: (heads * ceil(ceil(n / 32) / (4 / split)), tiles), where
    tiles are ceil(rows / tokens) or, if `routed`, as many as `group_rows` may make.

    Parameters of the kernel are those of `matvec`, but for

    ids         if `routed`: int32 [tiles][tokens], the rows of a tile, -1 where there is none
    tiles       if `routed`: int32, the number of tiles, then the expert of each
    """
    pieces = codes(fmt, tokens)
    return _tiles.tile_kernel(tokens, split, routed, biased, scaled, weighed, added, fmt, pieces)
