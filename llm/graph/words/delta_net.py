"""Words of delta nets: linear attention whose state is corrected, not only added to.

========== ============ ===========================================================================
op         weights      attrs; what y is
========== ============ ===========================================================================
delta_net  ()           state, n_heads, n_key_heads, head_dim, v_head_dim, scale, tiled; inputs q,
                        k, v, decay, beta. Each head h of a sequence has a state S, float32
                        [dk, dv]; a token does S = decay * S (a factor for the head, or one for each
                        row), S = S + k (beta (v - S^T k))^T and y = scale * S^T q, with q and k of
                        key head h // (H / G), or h % G if `tiled`
decay_gate (shift,)     rate (float32, a number for each head), bound (None or a number), act (one
                        of GROWTHS); y = exp(rate * act(x + shift)), or exp(bound * sigmoid(rate *
                        (x + shift))) if there is a bound
gated      ()           act (one of GATES); y = x * act(second input), of which a column
                        belongs to x.width / its width consecutive columns of x
========== ============ ===========================================================================
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder

GATES = ("sigmoid", "silu", "softplus")
GROWTHS = ("softplus", "exp")


def delta_net(
    g: GraphBuilder,
    q: Value,
    k: Value,
    v: Value,
    decay: Value,
    beta: Value,
    *,
    n_heads: int,
    n_key_heads: int,
    scale: float,
    name: str,
    tiled: bool = False,
) -> Value:
    """The gated delta rule: [T, H * dv].

    q and k are [T, G * dk], v [T, H * dv], beta [T, H], decay [T, H] or, for one factor for each
    row of a state, [T, H * dk]. Source: Yang et al., "Gated Delta Networks", 2024; Kimi Team, "Kimi
    Linear", 2025.
    """
    head_dim, v_head_dim = q.width // n_key_heads, v.width // n_heads
    expected = {
        "q": (q.width, n_key_heads * head_dim),
        "k": (k.width, n_key_heads * head_dim),
        "v": (v.width, n_heads * v_head_dim),
        "beta": (beta.width, n_heads),
        "heads": (n_heads % n_key_heads, 0),
    }
    for what, (got, want) in expected.items():
        if got != want:
            raise ValueError(f"{name}: {what}: expected {want}, got {got}")
    if decay.width not in (n_heads, n_heads * head_dim):
        raise ValueError(f"{name}: decay of width {decay.width} for {n_heads} heads of {head_dim}")
    attrs = {
        "state": g.state(n_heads * head_dim * v_head_dim),
        "n_heads": n_heads,
        "n_key_heads": n_key_heads,
        "head_dim": head_dim,
        "v_head_dim": v_head_dim,
        "scale": float(scale),
        "tiled": tiled,
    }
    return g.node("delta_net", name, (q, k, v, decay, beta), v.rows, v.width, (), attrs)


def decay_gate(
    g: GraphBuilder,
    x: Value,
    rate: Floats,
    shift: str,
    *,
    name: str,
    bound: float | None = None,
    act: str = "softplus",
) -> Value:
    """The part of a state that is kept, from a projection x [rows, H * n] of the token: same shape.

    `rate` has a number for each head, `shift` is a tensor (H * n,). Source: Gu and Dao, "Mamba",
    2023; with `bound`, which no decay's logarithm goes below, Kimi Team, "Kimi Linear", 2025; with
    `act` "exp" in place of "softplus", Peng et al., "Eagle and Finch", 2024.
    """
    if act not in GROWTHS:
        raise ValueError(f"{name}: act must be one of {GROWTHS}, got {act!r}")
    g.weight(shift, (x.width,))
    if x.width % rate.size:
        raise ValueError(f"{name}: {rate.size} rates for {x.width} columns")
    attrs = {"rate": np.ascontiguousarray(rate.reshape(-1), np.float32), "bound": bound, "act": act}
    return g.node("decay_gate", name, (x,), x.rows, x.width, (shift,), attrs)


def gated(g: GraphBuilder, x: Value, gate: Value, *, name: str, act: str = "sigmoid") -> Value:
    """x * act(gate): [rows, width]; a column of `gate` belongs to equally many columns of x."""
    if act not in GATES:
        raise ValueError(f"{name}: act must be one of {GATES}, got {act!r}")
    if x.rows != gate.rows or x.width % gate.width:
        raise ValueError(f"{name}: a gate of width {gate.width} for a value of width {x.width}")
    return g.node("gated", name, (x, gate), x.rows, x.width, (), {"act": act})


def l2_norm(g: GraphBuilder, x: Value, *, group: int, eps: float, name: str) -> Value:
    """x / sqrt(sum(x^2) + eps) over each `group` columns: [rows, width]."""
    # the mean of squares is the sum over `group`, and so is what is added to it
    y = g.rms_norm(x, "", eps=eps / group, group=group, name=f"{name}.rms")
    return g.scale(y, group**-0.5, name=name)
