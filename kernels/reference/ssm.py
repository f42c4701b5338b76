"""Twins of the recurrent operations: one sequence, one token after the other, in float64.

States are float32, as backends keep them between runs.
"""

import numpy as np

from jitllm.kernels.reference.weights import Doubles, Floats, f32, f64


def _silu(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(x / (1 + np.exp(-x)))


def _softplus(x: Doubles) -> Doubles:
    return np.asarray(np.logaddexp(0.0, x))


def causal_conv(
    x: Floats, taps: Floats, bias: Floats | None, act: str, state: Floats
) -> tuple[Floats, Floats]:
    """Return act(sum over j of taps[j] * x[t - (K - 1) + j] + bias), and the new state.

    Parameters
    ----------
    x : float32 [T, C]
    taps : float32 [K, C]
    bias : float32 [C] or None
    act : str
        "silu" or "" for none.
    state : float32 [K - 1, C]
        x of the tokens before.
    """
    whole = np.concatenate([state, x])
    y = sum(f64(whole[j : j + len(x)]) * tap for j, tap in enumerate(taps))
    y = np.asarray(y if bias is None else y + bias)
    return f32(_silu(y) if act == "silu" else y), whole[len(x) :]


def ssm_scan(
    x: Floats,
    b: Floats,
    c: Floats,
    step: Floats | None,
    *,
    a: Floats,
    d: Floats | None,
    step_bias: Floats | None,
    n_groups: int,
    state: Floats,
) -> tuple[Floats, Floats]:
    """Return the outputs [T, H*P] of a state for each head, and the new state [H, N, P].

    With s = softplus(step + step_bias), or 1 without steps: state = exp(a s) state + s b x^T, then
    y = c^T state + d x. Dao and Gu, "Transformers are SSMs", 2024, section 7.

    Parameters
    ----------
    x : float32 [T, H*P]
    b, c : float32 [T, G*N]
    step : float32 [T, H] or None
    a, d, step_bias : float32 [H]
        The last two may be None.
    n_groups : int
    state : float32 [H, N, P]
    """
    n_heads, size, _ = state.shape
    heads = f64(x).reshape(len(x), n_heads, -1)
    repeat = n_heads // n_groups
    keys, queries = (np.repeat(f64(v).reshape(len(x), -1, size), repeat, axis=1) for v in (b, c))
    steps = np.ones((len(x), n_heads))
    if step is not None:
        steps = _softplus(f64(step) if step_bias is None else f64(step) + step_bias)
    s, y = f64(state), np.empty_like(heads)
    for t in range(len(x)):
        written = keys[t][:, :, None] * (steps[t][:, None] * heads[t])[:, None, :]
        s = np.exp(a * steps[t])[:, None, None] * s + written
        y[t] = np.einsum("hn,hnp->hp", queries[t], s)
    y = y if d is None else y + d[:, None] * heads
    return f32(y.reshape(x.shape)), f32(s)


def selective_scan(
    x: Floats, b: Floats, c: Floats, step: Floats, *, a: Floats, d: Floats, state: Floats
) -> tuple[Floats, Floats]:
    """Return the outputs [T, C] of a state for each column, and the new state [N, C].

    With s = softplus(step): state = exp(a s) state + s x b^T, then y = c^T state + d x. Gu and
    Dao, "Mamba", 2023, section 3.

    Parameters
    ----------
    x, step : float32 [T, C]
    b, c : float32 [T, N]
    a : float32 [N, C]
    d : float32 [C]
    state : float32 [N, C]
    """
    steps, s, y = _softplus(f64(step)), f64(state), np.empty(x.shape)
    for t in range(len(x)):
        s = np.exp(a * steps[t]) * s + f64(b[t])[:, None] * (steps[t] * x[t])
        y[t] = f64(c[t]) @ s
    return f32(y + f64(x) * d), f32(s)


def in_blocks(values: Floats) -> Floats:
    """Return float32 [N, C] as [blocks, N, 16], 16 columns a block, zeros behind the last."""
    n, width = values.shape
    padded = np.pad(values, ((0, 0), (0, -width % 16)))
    return np.ascontiguousarray(padded.reshape(n, -1, 16).transpose(1, 0, 2))


def out_of_blocks(blocks: Floats, width: int) -> Floats:
    """Return the [N, width] that `in_blocks` has made [blocks, N, 16] of."""
    return blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)[:, :width]
