"""Words of recurrent layers: what a layer keeps of a sequence is a state of fixed size.

================ ======== =========================================================================
op               weights  attrs; what y is
================ ======== =========================================================================
causal_conv      ()       state, taps (float32 [K, C]), bias (float32 [C] or None), act ("silu" or
                          ""); y[t] = act(sum over j of taps[j] * x[t - (K - 1) + j] + bias), column
                          by column. The state is x of the last K - 1 tokens: float32 [K - 1, C]
ssm_scan         ()       state, n_heads, n_groups, has_step, a (float32 [H]), d, step_bias
                          (float32 [H] or None); inputs x [T, H*P], b, c [T, G*N], and, if
                          `has_step`, step [T, H]. With s = softplus(step + step_bias), or 1,
                          state = exp(a * s) * state + s * x b^T for each head; y = state c + d * x.
                          Head h reads group h // (H / G). The state is float32 [H, N, P]
selective_scan   ()       state, a (float32 [N, C]), d (float32 [C]); inputs x, step [T, C], b, c
                          [T, N]: `ssm_scan` with heads of one column, and a factor a for each
                          element of the state, float32 [C / 16, N, 16]: C in blocks
column_scale     ()       factors (float32 [width]); y = x * factors
================ ======== =========================================================================
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder


def causal_conv(
    g: GraphBuilder,
    x: Value,
    weight: str,
    *,
    taps: int,
    name: str,
    bias: str = "",
    act: str = "",
    dilation: int = 1,
) -> Value:
    """Each column of x [T, C] filtered over the last `taps` tokens, with weights (C, taps): [T, C].

    `bias` is a tensor (C,) or "", `act` "silu" or ""; of `dilation` consecutive tokens one is seen.
    Source: Gu and Dao, "Mamba", 2023.
    """
    weights = squeezed(g, weight, x.width, taps)
    values = np.zeros(((taps - 1) * dilation + 1, x.width), np.float32)
    values[::dilation] = weights.T
    shift = g.values(bias, (x.width,)) if bias else None
    return filtered(g, x, values, bias=shift, act=act, name=name)


def filtered(
    g: GraphBuilder, x: Value, taps: Floats, *, name: str, bias: Floats | None = None, act: str = ""
) -> Value:
    """`causal_conv` with numbers for tensors: `taps` is float32 [K, C], `bias` [C]."""
    if act not in ("", "silu"):
        raise ValueError(f"{name}: act must be 'silu' or '', got {act!r}")
    attrs = {
        "state": g.state((len(taps) - 1) * x.width),
        "taps": taps,
        "bias": bias,
        "act": act,
    }
    return g.node("causal_conv", name, (x,), x.rows, x.width, (), attrs)


def squeezed(g: GraphBuilder, name: str, *shape: int) -> Floats:
    """The values of a tensor that may have more or fewer dimensions of size 1 than `shape`."""
    got = tuple(g.tensors[name].shape) if g.has(name) else ()
    fits = [n for n in got if n > 1] == [n for n in shape if n > 1]
    return np.ascontiguousarray(g.values(name, got if fits and got else shape).reshape(shape))


def ssm_scan(
    g: GraphBuilder,
    x: Value,
    b: Value,
    c: Value,
    *,
    n_heads: int,
    n_groups: int,
    a: Floats,
    name: str,
    step: Value | None = None,
    step_bias: Floats | None = None,
    d: Floats | None = None,
) -> Value:
    """A state for each head of x [T, H*P], decaying, written along b, read along c: [T, H*P].

    The module's table has the formula. Source: Dao and Gu, "Transformers are SSMs", 2024.
    """
    for what, parts, width in (("n_heads", n_heads, x.width), ("n_groups", n_groups, b.width)):
        if parts < 1 or width % parts:
            raise ValueError(f"{name}: {what} = {parts} does not divide {width}")
    if n_heads % n_groups or b.width != c.width or (step and step.width != n_heads):
        raise ValueError(
            f"{name}: {n_heads} heads, {n_groups} groups, b and c of widths {b.width} and {c.width}"
        )
    attrs = {
        "state": g.state(x.width * b.width // n_groups),
        "n_heads": n_heads,
        "n_groups": n_groups,
        "has_step": step is not None,
        "a": a,
        "d": d,
        "step_bias": step_bias,
    }
    inputs = (x, b, c) if step is None else (x, b, c, step)
    return g.node("ssm_scan", name, inputs, x.rows, x.width, (), attrs)


def selective_scan(
    g: GraphBuilder, x: Value, b: Value, c: Value, step: Value, *, a: str, d: str, name: str
) -> Value:
    """The scan of Mamba's first form, with tensors a (C, N) and d (C,): [T, C].

    The module's table has the formula. Source: Gu and Dao, "Mamba", 2023, section 3.
    """
    attrs = {
        "state": g.state(-(-x.width // 16) * 16 * b.width),
        "a": np.ascontiguousarray(g.values(a, (x.width, b.width)).T),
        "d": g.values(d, (x.width,)),
    }
    return g.node("selective_scan", name, (x, b, c, step), x.rows, x.width, (), attrs)


def column_scale(g: GraphBuilder, x: Value, factors: Floats, *, name: str) -> Value:
    """x * factors, float32 [width]: [rows, width]."""
    if factors.shape != (x.width,):
        raise ValueError(f"{name}: {factors.shape} factors for {x.width} columns")
    return g.node("column_scale", name, (x,), x.rows, x.width, (), {"factors": factors})
