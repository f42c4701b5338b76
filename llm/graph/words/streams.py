"""Words of hyper-connections: several residual streams side by side, [rows, S * n].

============= ======= =============================================================================
op            weights attrs; what y is
============= ======= =============================================================================
stream_gates  ()      n_streams, scale and base (float32 [width]), eps, magnitude, post_eps,
                      iterations; y is, of the columns z = x * scale + base: sigmoid(z) + eps for
                      the first S (what is read of a stream), magnitude * sigmoid(z) + post_eps for
                      the next S (what is written to it), and for S * S more, column src * S + dst,
                      how streams are mixed: softmax over dst, + eps, then `iterations` times
                      divided by the sums over src, each + eps, and in between by those over dst
stream_read   ()      n_streams; inputs streams, gates; y = sum over s of gates[s] * stream s
stream_write  ()      n_streams; inputs x, streams, gates; stream dst of y = gates[S + dst]
                      * x [rows, n] + stream dst, or, where gates has a mix, + sum over src of
                      mix[src, dst] * stream src
============= ======= =============================================================================

Source: Zhu et al., "Hyper-Connections", 2024; DeepSeek-AI, "mHC", 2025.
"""

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.graph.words.heads import join_heads

MAX_STREAMS = 8


def new_streams(g: GraphBuilder, x: Value, n_streams: int, *, name: str) -> Value:
    """`n_streams` copies of x [rows, n], side by side: [rows, S * n]."""
    y = x
    for i in range(1, n_streams):
        last = i == n_streams - 1
        y = join_heads(g, y, x, n_heads=1, name=name if last else f"{name}.{i + 1}")
    return y


def stream_gates(
    g: GraphBuilder,
    x: Value,
    *,
    n_streams: int,
    scale: Floats,
    base: Floats,
    eps: float,
    name: str,
    magnitude: float = 1.0,
    post_eps: float = 0.0,
    iterations: int = 0,
) -> Value:
    """How streams are read, written and mixed: [rows, S], [rows, 2 S] or [rows, 2 S + S^2].

    Parameters
    ----------
    g : GraphBuilder
    x : Value
        [rows, width], the products with the gates' matrix.
    n_streams : int
        S.
    scale : float32 [1], [2] or [3]
        Of the columns that read, write and mix.
    base : float32 [width]
    eps, magnitude, post_eps, iterations
        As in the module's table; a mix needs `iterations`.
    name : str
    """
    parts = [n_streams, n_streams, n_streams * n_streams][: len(scale)]
    if x.width != sum(parts) or len(base) != x.width or not 1 <= n_streams <= MAX_STREAMS:
        raise ValueError(f"{name}: {x.width} columns for {len(scale)} parts of {n_streams} streams")
    if (len(scale) == 3) != (iterations > 0):
        raise ValueError(f"{name}: {len(scale)} parts, {iterations} iterations")
    attrs = {
        "n_streams": n_streams, "scale": np.repeat(scale, parts).astype(np.float32), "base": base,
        "eps": float(eps), "magnitude": float(magnitude), "post_eps": float(post_eps),
        "iterations": iterations,
    }  # fmt: skip
    return g.node("stream_gates", name, (x,), x.rows, x.width, (), attrs)


def stream_read(
    g: GraphBuilder, streams: Value, gates: Value, *, n_streams: int, name: str
) -> Value:
    """The streams' sum by their gates: [rows, n]."""
    _check(name, streams, gates, n_streams, 1)
    attrs, width = {"n_streams": n_streams}, streams.width // n_streams
    return g.node("stream_read", name, (streams, gates), streams.rows, width, (), attrs)


def stream_write(
    g: GraphBuilder, x: Value, streams: Value, gates: Value, *, n_streams: int, name: str
) -> Value:
    """The streams with x [rows, n] added by their gates: [rows, S * n]."""
    _check(name, streams, gates, n_streams, 2)
    if x.width * n_streams != streams.width or x.rows != streams.rows:
        raise ValueError(f"{name}: {x} for {n_streams} streams {streams}")
    attrs = {"n_streams": n_streams}
    inputs = (x, streams, gates)
    return g.node("stream_write", name, inputs, x.rows, streams.width, (), attrs)


def _check(name: str, streams: Value, gates: Value, n_streams: int, parts: int) -> None:
    if streams.width % n_streams or gates.width < parts * n_streams or gates.rows != streams.rows:
        raise ValueError(f"{name}: gates {gates} for {n_streams} streams {streams}")
