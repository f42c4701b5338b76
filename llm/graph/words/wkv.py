"""Words of RWKV: matrices of keys and values that decay column by column, and mixes of tokens.

========== ========================================================================================
op         attrs; what y is
========== ========================================================================================
wkv        state, n_heads, n_key_heads, form (one of FORMS); inputs r, k, v, w, for "delta" also e
           and a. Each head h of a sequence has a state S, float32 [dk, dv], and k and v are those
           of key head h // (H / G); D being diag(w), a token does

           - "before": y = S^T r, then S = D S + k v^T
           - "gated": S = D S + ((1 - w) * k) v^T, then y = S^T r
           - "delta": S = D S + k v^T - (a * e) (S^T e)^T, then y = S^T r
lerp       factors (float32 [m, width] or None); inputs a, b, and, if they are given, shifts
           [rows, m * width]; y[t, j] = a[t] + (b[t] - a[t]) * (factors[j] + shifts[t, j])
head_bonus n_heads, factors (float32 [H * dk]); inputs x, v [T, H * dv], r, k [T, H * dk];
           y[t, h] = x[t, h] + v[t, h] * sum over i of r[t, h, i] * k[t, h, i] * factors[h, i]
========== ========================================================================================

Source: Peng et al., "Eagle and Finch", 2024, and "RWKV-7 Goose", 2025.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.ssm import filtered

FORMS = ("before", "gated", "delta")


def wkv(
    g: GraphBuilder,
    r: Value,
    k: Value,
    v: Value,
    w: Value,
    *,
    n_heads: int,
    form: str,
    name: str,
    n_key_heads: int = 0,
    erase: Value | None = None,
    rate: Value | None = None,
) -> Value:
    """A state for each head, written along k, read along r: [T, H * dv].

    r and w are [T, H * dk], k [T, G * dk], v [T, G * dv]; `n_key_heads`, G, is H unless given.
    `erase` and `rate`, e and a of the form "delta", are [T, H * dk]. The module's table has the
    formulas.
    """
    n_key_heads = n_key_heads or n_heads
    if form not in FORMS or (form == "delta") != (erase is not None and rate is not None):
        raise ValueError(f"{name}: form must be one of {FORMS}, 'delta' with e and a, got {form!r}")
    if n_heads < 1 or n_heads % n_key_heads or r.width % n_heads or v.width % n_key_heads:
        raise ValueError(
            f"{name}: {n_heads} heads and {n_key_heads} key heads for {r.width} and {v.width} "
            "columns"
        )
    more = () if erase is None or rate is None else (erase, rate)
    dk, dv = r.width // n_heads, v.width // n_key_heads
    for value, width in ((k, n_key_heads * dk), *((x, n_heads * dk) for x in (w, *more))):
        if value.width != width:
            raise ValueError(f"{name}: {value.name} has {value.width} columns, not {width}")
    attrs = {
        "state": g.state(n_heads * dk * dv),
        "n_heads": n_heads,
        "n_key_heads": n_key_heads,
        "form": form,
    }
    return g.node("wkv", name, (r, k, v, w, *more), r.rows, n_heads * dv, (), attrs)


def previous(g: GraphBuilder, x: Value, *, name: str) -> Value:
    """The row before each one in its sequence, zeros before the first: [T, width].

    A `causal_conv` that sees two tokens and takes the first of them.
    """
    taps = np.zeros((2, x.width), np.float32)
    taps[0] = 1
    return filtered(g, x, taps, name=name)


def lerp(
    g: GraphBuilder,
    a: Value,
    b: Value,
    factors: Floats | None = None,
    shifts: Value | None = None,
    *,
    name: str,
) -> Value:
    """m points between a and b [rows, width], side by side: [rows, m * width].

    They lie where `factors` [m, width] and `shifts` [rows, m * width], added, say, 0 being a and 1
    being b.
    """
    m = len(factors) if factors is not None else shifts.width // a.width if shifts else 0
    if m < 1 or a.width != b.width or (shifts and shifts.width != m * a.width):
        raise ValueError(
            f"{name}: {m} points between values of widths {a.width} and {b.width}, moved by a "
            f"value of width {shifts.width if shifts else 0}"
        )
    if factors is not None and factors.shape != (m, a.width):
        raise ValueError(f"{name}: {factors.shape} factors for {a.width} columns")
    inputs = (a, b) if shifts is None else (a, b, shifts)
    return g.node("lerp", name, inputs, a.rows, m * a.width, (), {"factors": factors})


def head_bonus(
    g: GraphBuilder, x: Value, v: Value, r: Value, k: Value, factors: Floats, *, n_heads: int,
    name: str,
) -> Value:  # fmt: skip
    """x + v * (r . (factors * k)), head by head: [T, H * dv]. What a token adds to its own output.

    x and v are [T, H * dv], r and k [T, H * dk], `factors` float32 [H * dk].
    """
    shapes = (v.width, k.width, *factors.shape, x.width % n_heads, r.width % n_heads)
    if shapes != (x.width, r.width, r.width, 0, 0):
        raise ValueError(
            f"{name}: {n_heads} heads of x and v, {x.width} and {v.width} columns, and of r and k, "
            f"{r.width} and {k.width} columns, with factors {factors.shape}"
        )
    attrs = {"n_heads": n_heads, "factors": factors}
    return g.node("head_bonus", name, (x, v, r, k), x.rows, x.width, (), attrs)
