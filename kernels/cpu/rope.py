"""Rotary position embedding (Su et al. 2021): pairs of columns turn by position * frequency.

Sines and cosines of 16 pairs at a time are computed once per row and used by all heads: per head
and pair 16 bytes of traffic and 4 operations.
"""

from jitllm.kernels import abi
from jitllm.kernels.cpu.inline import inline
from jitllm.kernels.cpu.rows import next_rows
from jitllm.kernels.cpu.vmath import (
    ZERO,
    as_f32,
    evens,
    load_part,
    odds,
    sin_cos,
    store_part,
    zip_high,
    zip_low,
)
from jitllm.kernels.simd import fma, load_f32, load_i32, load_i64, splat_f32


@inline
def _angles(table, position, magnitude, n):
    """Return sine and cosine times magnitude of the next `n` pairs of the table."""
    first, second = load_part(table, 2 * n), load_part(table + 64, 2 * n - 16)
    frequency = evens(first, second)
    sine, cosine = sin_cos(splat_f32(position) * frequency)
    return sine * splat_f32(magnitude), cosine * splat_f32(magnitude)


@inline
def _turn(a, b, sine, cosine):
    zero = splat_f32(ZERO)
    return fma(a, cosine, zero - b * sine), fma(b, cosine, a * sine)


@inline
def _turn_neox(x, y, half, sine, cosine, n):
    a, b = _turn(load_part(x, n), load_part(x + 4 * half, n), sine, cosine)
    store_part(y, a, n)
    store_part(y + 4 * half, b, n)


@inline
def _turn_norm(x, y, half, sine, cosine, n):
    first, second = load_part(x, 2 * n), load_part(x + 64, 2 * n - 16)
    a, b = _turn(evens(first, second), odds(first, second), sine, cosine)
    store_part(y, zip_low(a, b), 2 * n)
    store_part(y + 64, zip_high(a, b), 2 * n - 16)


@inline
def copy(x, y, n_floats):
    """y = x, n_floats of them."""
    for i in range(0, n_floats, 16):
        store_part(y + 4 * i, load_part(x + 4 * i, n_floats - i), n_floats - i)


TURNS = {"norm": (_turn_norm, 8), "neox": (_turn_neox, 4)}
"""How n pairs turn: f(x, y, n_rot / 2, sine, cosine, n); and bytes from a pair to the next."""


def rope(*, kind):
    """Make the rotation kernel (`abi.ROPE`).

    Parameters
    ----------
    kind : str
        "norm": pairs (2i, 2i + 1); "neox": pairs (i, i + n_rot / 2).
    """
    if kind not in TURNS:
        raise ValueError(f"kind must be one of {sorted(TURNS)}, got {kind!r}")
    turn, pair_bytes = TURNS[kind]

    def kernel(args, thread, n_threads, counter):
        run = load_i64(args)
        n_rows, positions = load_i64(run + 8 * abi.N_TOKENS), load_i64(run + 8 * abi.POSITIONS)
        x, ldx, y, ldy = (load_i64(args + 8), load_i64(args + 16), load_i64(args + 24),
                          load_i64(args + 32))  # fmt: skip
        n_heads, head_dim, n_rot = load_i64(args + 40), load_i64(args + 48), load_i64(args + 56)
        table, magnitude = load_i64(args + 64), load_f32(args + 72)
        half = n_rot // 2
        row, end = next_rows(counter, n_rows, n_heads * head_dim)
        while row < end:
            for r in range(row, end):
                position = as_f32(load_i32(positions + 4 * r))
                for i in range(0, half, 16):
                    n = min(16, half - i)
                    sine, cosine = _angles(table + 8 * i, position, magnitude, n)
                    for h in range(n_heads):
                        at = 4 * h * head_dim + pair_bytes * i
                        turn(x + r * ldx + at, y + r * ldy + at, half, sine, cosine, n)
                if x != y and n_rot < head_dim:
                    for h in range(n_heads):
                        at = 4 * (h * head_dim + n_rot)
                        copy(x + r * ldx + at, y + r * ldy + at, head_dim - n_rot)
            row, end = next_rows(counter, n_rows, n_heads * head_dim)

    return kernel
