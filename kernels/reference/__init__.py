"""Twins: every kernel in plain NumPy, slow and obvious, the oracle on every backend.

Values are float32 [T, width], one row a token; results are float32. Unless a docstring says
otherwise, a twin calculates in float64 and rounds once at the end, so that a kernel's distance
from it is the kernel's own error.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import PAGE_TOKENS
from jitllm.kernels.reference.routing import top_k_experts
from jitllm.kernels.reference.weights import (
    Doubles,
    Floats,
    Ints,
    checked,
    embed,
    expert_matmul,
    f32,
    f64,
    linear_parts,
    matmul,
    quantize_activations,
    split,
)

__all__ = [
    "activation", "add", "attention", "attention_pattern", "embed", "expert_matmul", "glu",
    "kv_write", "layer_norm", "linear_parts", "matmul", "mul", "quantize_activations", "rms_norm",
    "rope", "scale", "select_rows", "soft_cap", "top_k_experts",
]  # fmt: skip


def rms_norm(x: Floats, w: Floats | None, eps: float, group: int | None = None) -> Floats:
    """Return x / sqrt(mean(x^2) + eps) * w, the mean taken over each `group` columns.

    Parameters
    ----------
    x : float32 [T, width]
    w : float32 [group] or None
        Gains, the same for every group; None means ones.
    eps : float
    group : int, optional
        A divisor of width, e.g. the size of a head; by default the whole row.

    Notes
    -----
    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    parts = split(f64(x), x.shape[1] // (group or x.shape[1]))
    parts = parts / np.sqrt(np.mean(parts**2, axis=-1, keepdims=True) + eps)
    return f32(parts if w is None else parts * w).reshape(x.shape)


def layer_norm(x: Floats, w: Floats | None, b: Floats | None, eps: float) -> Floats:
    """Return (x - mean) / sqrt(var + eps) * w + b along rows of x [T, width].

    w and b are float32 [width], or None for ones and zeros; the variance divides by width. Ba,
    Kiros and Hinton, "Layer Normalization", 2016.
    """
    rows = f64(x)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps)
    y = y if w is None else y * w
    return f32(y if b is None else y + b)


def _sigmoid(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(x: Doubles) -> Doubles:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _gelu(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _gelu_erf(x: Doubles) -> Doubles:
    erf = np.array([math.erf(v) for v in x.ravel() / math.sqrt(2)])
    return np.asarray(0.5 * x * (1 + erf.reshape(x.shape)))


_ACTIVATIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "gelu_erf": _gelu_erf,
    "gelu_quick": lambda x: x * _sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0.0),
    "relu_squared": lambda x: np.maximum(x, 0.0) ** 2,
    "sigmoid": _sigmoid,
    "tanh": lambda x: np.asarray(np.tanh(x)),
    "softplus": lambda x: np.asarray(np.logaddexp(0.0, x)),
}


def _activate(x: Floats, act: str) -> Doubles:
    if act not in _ACTIVATIONS:
        raise ValueError(f"act must be one of {sorted(_ACTIVATIONS)}, got {act!r}")
    return _ACTIVATIONS[act](f64(x))


def activation(x: Floats, act: str) -> Floats:
    """Return act(x), element by element.

    Parameters
    ----------
    x : float32 array
    act : str
        "silu": x / (1 + e^-x); "gelu": x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); "gelu_erf":
        x/2 (1 + erf(x / sqrt 2)); "relu": max(x, 0). Hendrycks and Gimpel, "Gaussian Error
        Linear Units", 2016.

    Raises
    ------
    ValueError
        If `act` is none of these.
    """
    return f32(_activate(x, act))


def glu(gate: Floats, up: Floats, act: str) -> Floats:
    """Return act(gate) * up, both float32 [T, width]; `act` as for `activation`.

    Shazeer, "GLU Variants Improve Transformer", 2020.
    """
    return f32(_activate(gate, act) * up)


def add(a: Floats, b: Floats) -> Floats:
    """Return a + b in float32."""
    return a + b


def mul(a: Floats, b: Floats) -> Floats:
    """Return a * b in float32."""
    return a * b


def scale(x: Floats, factor: float) -> Floats:
    """Return x * factor in float32, the factor rounded to float32 first."""
    return x * np.float32(factor)


def soft_cap(x: Floats, cap: float) -> Floats:
    """Return cap * tanh(x / cap), which keeps values within (-cap, cap)."""
    return f32(cap * np.tanh(f64(x) / cap))


def select_rows(x: Floats, rows: Ints) -> Floats:
    """Return the rows of x [T, width] that `rows`, int [O], names: [O, width]."""
    return x[checked(rows, len(x), "row")]


def rope(
    x: Floats,
    positions: Ints,
    *,
    n_heads: int,
    head_dim: int,
    n_rot: int,
    frequencies: Floats,
    magnitude: float = 1.0,
    kind: str = "norm",
) -> Floats:
    """Rotate pairs of columns of every head by position times frequency.

    Pair i of a head turns by the angle positions[t] * frequencies[i], a float32 product, after
    which it is multiplied by `magnitude`: (a, b) -> (a cos - b sin, a sin + b cos). Columns from
    n_rot on are copied.

    Parameters
    ----------
    x : float32 [T, n_heads * head_dim]
    positions : int [T]
    n_heads, head_dim, n_rot : int
        n_rot is even and at most head_dim.
    frequencies : float32 [n_rot / 2]
        Radians per position.
    magnitude : float
    kind : str
        "norm": pair i is columns 2i, 2i+1; "neox": columns i, i + n_rot/2.

    Raises
    ------
    ValueError
        If `kind` is neither.

    Notes
    -----
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    """
    if kind not in ("norm", "neox"):
        raise ValueError(f"kind must be 'norm' or 'neox', got {kind!r}")
    pairs = np.arange(n_rot // 2)
    first, second = (2 * pairs, 2 * pairs + 1) if kind == "norm" else (pairs, pairs + n_rot // 2)
    angle = positions.astype(np.float32)[:, None, None] * frequencies.astype(np.float32)
    cos, sin = np.cos(f64(angle)) * magnitude, np.sin(f64(angle)) * magnitude
    heads = split(f64(x), n_heads)
    y = heads.copy()
    y[..., first] = heads[..., first] * cos - heads[..., second] * sin
    y[..., second] = heads[..., first] * sin + heads[..., second] * cos
    return f32(y).reshape(x.shape)


def kv_write(
    k: Floats,
    v: Floats,
    pages: npt.NDArray[Any],
    table: Ints,
    position: int,
    *,
    n_kv_heads: int,
    kv: str = "",
) -> None:
    """Write keys and values of consecutive positions into the pages of one layer's cache.

    Parameters
    ----------
    k, v : float32 [S, G * dk], [S, G * dv]
        Row i has position `position + i`.
    pages : float16 or float32 [n_pages, G * (dk + dv) * 64], or uint8 [n_pages, bytes]
        Written in place. A page holds, for each head, K as [items][64] and then V as [64][items],
        where items are numbers, or bytes of quantized blocks.
    table : int [n]
        Page numbers; position p lies in page table[p // 64 mod n], cell p mod 64.
    position : int
    n_kv_heads : int
        G.
    kv : str, optional
        Type of keys and values, see `cache_types`; by default that of `pages`.
    """
    keys, values = split(k, n_kv_heads), split(v, n_kv_heads)
    sizes = n_kv_heads, keys.shape[2], values.shape[2]
    kv = kv or {2: "f16", 4: "f32"}[pages.itemsize]
    key_rows, value_rows = cache_types.rows_of(kv, sizes)
    new_keys, new_values = key_rows.encode(keys), value_rows.encode(values)
    for i in range(len(k)):
        block, cell = divmod(position + i, PAGE_TOKENS)
        page = pages[table[block % len(table)]].view(np.uint8)
        own_keys, own_values = cache_types.page_views(kv, sizes, page)
        own_keys[:, :, cell] = new_keys[i]
        own_values[:, cell] = new_values[i]


def attention_pattern(
    q: Floats,
    k: Floats,
    q_positions: Ints,
    k_positions: Ints,
    *,
    n_heads: int,
    n_kv_heads: int,
    scale: float,
    window: int = 0,
    causal: bool = True,
    chunked: bool = False,
    soft_cap: float = 0.0,
    sinks: Floats | None = None,
    slopes: Floats | None = None,
    table: Floats | None = None,
) -> Floats:
    """Return the weights that queries give to keys, float32 [H, T, S]; see `attention`."""
    queries = split(f64(q), n_heads).transpose(1, 0, 2)
    keys = split(f64(k), n_kv_heads).transpose(1, 2, 0)
    scores = queries @ np.repeat(keys, n_heads // n_kv_heads, axis=0) * scale
    if soft_cap:
        scores = soft_cap * np.tanh(scores / soft_cap)
    at, keys_at = q_positions.astype(np.int64)[:, None], k_positions.astype(np.int64)
    distance = at - keys_at
    if slopes is not None:
        scores = scores - f64(slopes).reshape(-1, 1, 1) * abs(distance)
    if table is not None:
        reach = table.shape[1] // 2
        scores = scores + f64(table)[:, np.clip(-distance, -reach, reach) + reach]
    hidden = distance < 0 if causal else np.zeros(distance.shape, bool)
    if window and chunked:
        hidden |= keys_at < at - at % window
    elif window:
        hidden |= distance >= window if causal else abs(distance) > window // 2
    scores[:, hidden] = -np.inf
    sink = np.full((n_heads, 1, 1), -np.inf) if sinks is None else f64(sinks).reshape(-1, 1, 1)
    top = np.maximum(scores.max(axis=-1, keepdims=True, initial=-np.inf), sink)
    top[top == -np.inf] = 0.0  # a query that sees nothing gives weight 0 to all
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True) + np.exp(sink - top)
    return f32(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))


def attention(
    q: Floats,
    k: Floats,
    v: Floats,
    q_positions: Ints,
    k_positions: Ints,
    *,
    n_heads: int,
    n_kv_heads: int,
    **options: Any,
) -> Floats:
    """Return softmax(cap(q k^T * scale) + mask) v for every head, float32 [T, H * dv].

    Parameters
    ----------
    q, k, v : float32 [T, H * dk], [S, G * dk], [S, G * dv]
        Round k and v to float16 before the call where the cache does.
    q_positions, k_positions : int [T], [S]
    n_heads, n_kv_heads : int
        H and G; query head h reads kv head h // (H / G) (Ainslie et al., "GQA", 2023).
    scale : float
    window : int
        W > 0 hides keys at distance W or more behind the query, or, without `causal`, further
        than W // 2 on both sides; 0 hides none.
    causal : bool
        Hide keys of later positions than the query's.
    chunked : bool
        Instead of keys at a distance, hide those before the query's chunk of W positions.
    soft_cap : float
        c > 0 replaces a scaled score s by c * tanh(s / c).
    sinks : float32 [H], optional
        One more logit a head that only adds to the denominator (Agarwal et al., "gpt-oss", 2025).
    slopes : float32 [H], optional
        Times the distance of a key, this is subtracted from its score (Press et al., ALiBi, 2021).
    table : float32 [H, 2 * R + 1], optional
        Column R + d is added to the score of a key d positions behind the query (d < 0: before
        it), those at the ends beyond distance R too (Shaw et al., 2018; Raffel et al., T5, 2020).

    Notes
    -----
    Vaswani et al., "Attention Is All You Need", 2017. A query that sees no key gives zeros.
    """
    weights = attention_pattern(
        q, k, q_positions, k_positions, n_heads=n_heads, n_kv_heads=n_kv_heads, **options
    )
    values = split(f64(v), n_kv_heads).transpose(1, 0, 2)
    out = f64(weights) @ np.repeat(values, n_heads // n_kv_heads, axis=0)
    return f32(np.concatenate(out, axis=1))
