"""Products of many rows with packed weights, y = x W^T, on tensor cores, float16 times float16.

A step is 16 rows of W times 8 rows of x times 16 columns; sums are float32 and need no more work.
Of 32 outputs and columns a thread has 16 pairs of weights, which take it 50 (Q8_0) to 100 (Q6_K)
instructions, beside 32 steps for 64 rows; docs/CUDA.md says what is the limit. Activations keep 11
bits, so results are better than those of `matmul`; scales and weights of less than 6e-5 lose some.
"""

from jitllm.kernels.cuda import _tiles
from jitllm.kernels.cuda._operands import halves

THREADS = _tiles.THREADS


def matmul_half(tokens, split, routed, biased, scaled, weighed, added, *, fmt):
    """Make the kernel for `tokens` rows of x at a time: 8, 16, 32, 64 or 128.

    Constants, grid and parameters are those of `matmul`, but x is what `to_half` made of rows / fan
    rows, in order 1 for float formats, 0 for others. With several heads k is a multiple of 32.
    """
    pieces = halves(fmt, tokens, routed)
    return _tiles.tile_kernel(tokens, split, routed, biased, scaled, weighed, added, fmt, pieces)
