"""Twins of the operations of RWKV, in float64."""

import numpy as np

from jitllm.kernels.reference.weights import Doubles, Floats, f32, f64


def wkv(
    r: Floats,
    k: Floats,
    v: Floats,
    w: Floats,
    state: Floats,
    *,
    form: str,
    n_key_heads: int,
    erase: Floats | None = None,
    rate: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Run consecutive tokens of one sequence through the states of the heads.

    For each head, S being its state and a token's row giving the others, with D = diag(w):

    - "before": y = S^T r, S = D S + k v^T (RWKV-6)
    - "gated": S = D S + ((1 - w) * k) v^T, y = S^T r
    - "delta": S = D S + k v^T - (a * e) (S^T e)^T, y = S^T r (RWKV-7)

    Parameters
    ----------
    r, w : float32 [T, H * dk]
    k : float32 [T, G * dk]
        Head h reads head h // (H / G), as of v.
    v : float32 [T, G * dv]
    state : float32 [H, dk, dv]
        Before the first token.
    form : str
    n_key_heads : int
        G.
    erase, rate : float32 [T, H * dk], optional
        e and a.

    Returns
    -------
    y : float32 [T, H * dv]
    state : float32 [H, dk, dv]
        Behind the last token.

    Source: Peng et al., "Eagle and Finch", 2024, and "RWKV-7 Goose", 2025.
    """
    s, (heads, _, dv) = f64(state), state.shape

    def split(x: Floats | None, parts: int) -> Doubles:
        """[T, heads, columns of one], zeros for None."""
        whole = np.zeros(r.shape) if x is None else f64(x)
        return np.repeat(whole.reshape(len(r), parts, -1), heads // parts, axis=1)

    queries, decays, e, a = (split(x, heads) for x in (r, w, erase, rate))
    keys, values = split(k, n_key_heads), split(v, n_key_heads)
    keys = keys * (1 - decays) if form == "gated" else keys
    out = np.empty((len(r), heads, dv))
    for t in range(len(r)):
        removed = (a[t] * e[t])[:, :, None] * np.einsum("hkv,hk->hv", s, e[t])[:, None, :]
        new = decays[t][:, :, None] * s + keys[t][:, :, None] * values[t][:, None, :] - removed
        out[t] = np.einsum("hkv,hk->hv", s if form == "before" else new, queries[t])
        s = new
    return f32(out.reshape(len(r), -1)), f32(s)


def lerp(a: Floats, b: Floats, factors: Floats | None, shifts: Floats | None) -> Floats:
    """Return a + (b - a) * (factors[j] + shifts[:, j]) for every j, side by side.

    a and b are float32 [T, width], factors [m, width] or None, shifts [T, m * width] or None.
    """
    at = np.zeros((1, 1, a.shape[1])) if factors is None else f64(factors)[None]
    if shifts is not None:
        at = at + f64(shifts).reshape(len(a), -1, a.shape[1])
    return f32((f64(a)[:, None] + (f64(b) - a)[:, None] * at).reshape(len(a), -1))


def head_bonus(x: Floats, v: Floats, r: Floats, k: Floats, factors: Floats, n_heads: int) -> Floats:
    """Return x + v * (the sum of r * k * factors over each head).

    x and v are float32 [T, H * dv], r and k [T, H * dk], factors [H * dk].
    """
    share = (f64(r) * k * factors).reshape(len(x), n_heads, -1).sum(axis=2, keepdims=True)
    values = f64(v).reshape(len(x), n_heads, -1)
    return f32(f64(x) + (values * share).reshape(x.shape))
