"""Twins of the kernels of delta nets: the recurrence and its decay, in float64."""

import numpy as np

from jitllm.kernels.reference.weights import Floats, f32, f64


def delta_net(
    q: Floats,
    k: Floats,
    v: Floats,
    decay: Floats,
    beta: Floats,
    state: Floats,
    *,
    n_key_heads: int,
    scale: float,
    tiled: bool = False,
) -> tuple[Floats, Floats]:
    """Run consecutive tokens of one sequence through the gated delta rule.

    For each head, S being its state and a token's row giving the others: S = decay * S (row by
    row of S), S = S + k (beta (v - S^T k))^T, y = scale * S^T q.

    Parameters
    ----------
    q, k : float32 [T, G * dk]
        Head h reads head h // (H / G), or h % G if `tiled`.
    v : float32 [T, H * dv]
    decay : float32 [T, H] or [T, H * dk]
        One factor for a head's state, or one for each of its rows.
    beta : float32 [T, H]
    state : float32 [H, dk, dv]
        Before the first token.
    n_key_heads : int
        G.
    scale : float
    tiled : bool

    Returns
    -------
    y : float32 [T, H * dv]
    state : float32 [H, dk, dv]
        Behind the last token.

    Source: Yang, Kautz and Hatamizadeh, "Gated Delta Networks", 2024; with a decay for each row,
    Kimi Team, "Kimi Linear", 2025.
    """
    s = f64(state)
    heads, dk, _ = s.shape
    head = np.arange(heads)
    read = head % n_key_heads if tiled else head // (heads // n_key_heads)
    queries, keys = (f64(x).reshape(len(x), n_key_heads, dk)[:, read] for x in (q, k))
    values = f64(v).reshape(len(v), heads, -1)
    factors = f64(decay).reshape(len(decay), heads, -1)
    out = np.empty(values.shape)
    for t in range(len(values)):
        s = s * factors[t][:, :, None]
        change = (values[t] - np.einsum("hkv,hk->hv", s, keys[t])) * f64(beta[t])[:, None]
        s = s + keys[t][:, :, None] * change[:, None, :]
        out[t] = scale * np.einsum("hkv,hk->hv", s, queries[t])
    return f32(out.reshape(len(out), -1)), f32(s)


def decay_gate(
    x: Floats, shift: Floats, rate: Floats, bound: float | None = None, act: str = "softplus"
) -> Floats:
    """Return exp(rate * act(x + shift)), or exp(bound * sigmoid(rate * (x + shift))).

    Parameters
    ----------
    x : float32 [T, width]
    shift, rate : float32 [width]
    bound : float, optional
        Chooses the second form.
    act : str
        "softplus" or "exp".
    """
    moved = f64(x) + f64(shift)
    if bound is None:
        grown = np.logaddexp(0.0, moved) if act == "softplus" else np.exp(moved)
        return f32(np.exp(f64(rate) * grown))
    return f32(np.exp(bound / (1 + np.exp(-f64(rate) * moved))))


def gated(x: Floats, gate: Floats, act: str = "sigmoid") -> Floats:
    """Return x * act(gate), act being "sigmoid", "silu" or "softplus".

    x is float32 [T, width], gate float32 [T, m]; column j of gate belongs to the columns from
    j * width / m on.
    """
    opened = np.logaddexp(0, f64(gate)) if act == "softplus" else 1 / (1 + np.exp(-f64(gate)))
    if act == "silu":
        opened = opened * f64(gate)
    return f32(f64(x) * np.repeat(opened, x.shape[1] // gate.shape[1], axis=1))
