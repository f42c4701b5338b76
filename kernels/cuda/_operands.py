"""What tensor cores multiply, 32 columns of 32 rows of W by those of some rows of x."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jitllm.kernels import formats
from jitllm.kernels.cuda._half_weights import PAIRS, numbers, values
from jitllm.kernels.cuda._packed import QUAD, group_loader, reader
from jitllm.kernels.cuda._products import tile_product
from jitllm.kernels.gpu.vocabulary import (
    inline,
    lane,
    load_f32,
    load_shared_i32x4,
    mma_f16,
    registers_i32,
    unroll,
)

Function = Callable[..., Any]
ONE = np.float32(1)
# Types whose halves lack registers, by a few, if the compiler chooses.
TIGHT = ("IQ4_NL", "NVFP4", "Q4_0", "Q5_K")


@dataclass(frozen=True)
class Operands:
    """Functions and sizes for weights of a format.

    Attributes
    ----------
    words : int
        Registers that a thread's weights of 32 columns take.
    code_bytes, head_bytes : int
        Of 32 columns of a row of x: what stands first, and what follows for all rows.
    load : load(matrix, group, k, quad, t, r)
        Load 32 columns of four rows of W; if the group is behind the last, those of the last.
    multiply : multiply(sums, r, codes, heads)
        Add the products with rows of x that stand in shared memory.
    factor : factor(behind, row)
        A number of a row of x to multiply sums by; `behind` is where codes end.
    groups : int
        Workgroups of a multiprocessor for which NVIDIA's compiler should have registers; 0 lets it
        choose, and it may store some elsewhere to have room for one more.
    """

    words: int
    code_bytes: int
    head_bytes: int
    load: Function
    multiply: Function
    factor: Function
    groups: int = 0


def codes(name, tokens):
    """Return codes times int8, see `quantize`, for `tokens` rows of x."""
    group_reader = reader(name)

    @inline
    def factor(behind, row):
        return ONE

    multiply = tile_product(name, group_reader, tokens)
    groups = 4 if tokens < 32 else 3 if tokens == 32 and group_reader.parts == 1 else 2
    return Operands(group_reader.pair_words, 32, 8, group_loader(name), multiply, factor, groups)


def halves(name, tokens, routed):
    """Return numbers rounded to float16 times float16, see `to_half`, for `tokens` rows of x."""
    words, load, weight = (numbers if formats.get(name).scales == "float" else values)(name)
    n_tiles, n_weights = tokens // 8, QUAD * PAIRS

    @inline
    def add(sums, first, a, b):
        """Add 16 rows times 8; `sums` from `first` on are those of two rows of a thread."""
        d = mma_f16(a, b, (sums[first], sums[first + 1], sums[first + 2], sums[first + 3]))
        for i in unroll(4):
            sums[first + i] = d[i]

    @inline
    def multiply(sums, r, codes, heads):
        w = registers_i32(n_weights)
        weight(r, w)
        codes += 64 * (lane() >> 2) + 16 * (lane() & 3)
        for tile in unroll(n_tiles):
            b = load_shared_i32x4(codes + 512 * tile)
            for i in unroll(4):  # two pairs of rows, two halves of the columns
                row, at = 2 * (i & 1), 2 * QUAD * (i >> 1)
                a = (w[at + row], w[at + row + 1], w[at + QUAD + row], w[at + QUAD + row + 1])
                add(sums, 8 * tile + 2 * row, a, (b[at >> 2], b[(at >> 2) + 1]))

    @inline
    def factor(behind, row):
        return load_f32(behind + 4 * row)

    groups = 2 if tokens == 64 and (routed or name in TIGHT) else 0
    return Operands(words, 64, 0, load, multiply, factor, groups)
