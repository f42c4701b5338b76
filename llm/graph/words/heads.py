"""Words on values that hold several heads side by side: [rows, H * D].

================ ==================== ============================================================
op               weights              attrs; what y is
================ ==================== ============================================================
head_matmul      (w (H, N, K),)       n_heads; y[t, h] = w[h] x[t, h]: a matrix for each head
head_columns     ()                   n_heads, start, stop; y[t, h] = x[t, h, start:stop]
join_heads       ()                   n_heads, shared; y[t, h] = (a[t, h], b[t, h]), or, if
                                      `shared`, (a[t, h], b[t]): one part b for all heads
================ ==================== ============================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder

PACKED_ROWS = 16  # rows of a matrix that backends may keep together
ALIGNED_COLUMNS = 16  # columns that start at a multiple of it need no copy


def head_matmul(
    g: GraphBuilder, x: Value, weight: str, *, n_heads: int, name: str, width: int = -1
) -> Value:
    """Each head of x [rows, H * K] times its own matrix: [rows, H * N].

    `weight` is a stack (H, N, K), or (H * N, K); `width` is the N that it must have.
    """
    size = _head_size(name, x, n_heads)
    is_flat = g.has(weight) and len(g.tensors[weight].shape) == 2
    if is_flat:
        total = g.weight(weight, (max(-1, n_heads * width), size))[0]
        if total % (n_heads * (1 if n_heads == 1 else PACKED_ROWS)):
            raise ValueError(f"{name}: {total} rows for {n_heads} heads, in steps of {PACKED_ROWS}")
    else:
        total = n_heads * g.weight(weight, (n_heads, width, size))[1]
    return g.node("head_matmul", name, (x,), x.rows, total, (weight,), {"n_heads": n_heads})


def head_columns(
    g: GraphBuilder, x: Value, start: int, stop: int, *, n_heads: int, name: str
) -> Value:
    """Columns `start` to `stop` - 1 of every head of x [rows, H * D], side by side."""
    size = _head_size(name, x, n_heads)
    if not 0 <= start < stop <= size:
        raise ValueError(f"{name}: columns {start}:{stop} of heads of width {size}")
    attrs = {"n_heads": n_heads, "start": start, "stop": stop}
    width = n_heads * (stop - start)
    return g.node("head_columns", name, (x,), x.rows, width, (), attrs)


def columns(g: GraphBuilder, x: Value, start: int, stop: int, *, name: str) -> Value:
    """x[:, start:stop], wherever it starts: [rows, stop - start]."""
    if start % ALIGNED_COLUMNS:
        return head_columns(g, x, start, stop, n_heads=1, name=name)
    return g.columns(x, start, stop, name=name)


def join_heads(
    g: GraphBuilder, a: Value, b: Value, *, n_heads: int, name: str, shared: bool = False
) -> Value:
    """Heads of a [rows, H * A] followed by those of b [rows, H * B]: [rows, H * (A + B)].

    With `shared`, b is [rows, B] and follows every head of a.
    """
    size = _head_size(name, a, n_heads) + _head_size(name, b, 1 if shared else n_heads)
    if a.rows != b.rows:
        raise ValueError(f"{name}: rows {a.rows!r} beside rows {b.rows!r}")
    attrs = {"n_heads": n_heads, "shared": shared}
    return g.node("join_heads", name, (a, b), a.rows, n_heads * size, (), attrs)


def _head_size(name: str, x: Value, n_heads: int) -> int:
    if n_heads < 1 or x.width % n_heads:
        raise ValueError(f"{name}: {x.width} columns for {n_heads} heads")
    return x.width // n_heads
