"""The CPU kernels as functions of NumPy arrays: for notebooks, and for the tests.

Names and arguments are those of the twins in `reference`. Every function checks its arguments,
copies them to aligned rows, runs the compiled kernel on one thread (see `threads`) and returns
new arrays. Rows come padded with NaN, and so does what a kernel is to write: a read of padding or a
forgotten write shows in the result.
"""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import abi, cache_types, jit
from jitllm.kernels.cpu import attention_layout as layout

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]

_n_threads: ContextVar[int] = ContextVar("n_threads", default=1)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Run the kernels called within the block on `n` threads; results have the same bits."""
    token = _n_threads.set(n)
    try:
        yield
    finally:
        _n_threads.reset(token)


def launch(
    op: abi.Op, run: npt.NDArray[np.int64], /, *, params: dict[str, Any], **values: Any
) -> None:
    """Run one op; `values` are the fields of its argument block, `params` its static parameters."""
    kernel = jit.function(op.module, op.function, **params)
    block, counter = op.pack(run.ctypes.data, **values), np.zeros(1, np.int64)
    n = _n_threads.get()
    arguments = [(block.ctypes.data, i, n, counter.ctypes.data) for i in range(n)]
    workers = [threading.Thread(target=kernel, args=a) for a in arguments[1:]]
    for worker in workers:
        worker.start()
    kernel(*arguments[0])
    for worker in workers:
        worker.join()


def aligned(n_bytes: int, alignment: int = 64) -> npt.NDArray[np.uint8]:
    """Return `n_bytes` bytes of 0xFF (NaN as float16 and float32) at an aligned address."""
    raw = np.full(n_bytes + alignment, 0xFF, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + n_bytes]


def empty_rows(n: int, width: int) -> Floats:
    """Return NaN [n, width]; rows start at multiples of 64 bytes and are padded with NaN."""
    padded = -(-width // 16) * 16
    return aligned(4 * n * padded).view(np.float32).reshape(n, padded)[:, :width]


def _rows(name: str, x: Any, shape: tuple[int | None, int | None] = (None, None)) -> Floats:
    """Copy a float32 matrix to aligned rows."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim != 2:
        got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be a float32 array of 2 dimensions, got {got}")
    if any(want not in (None, size) for want, size in zip(shape, x.shape, strict=True)):
        raise ValueError(f"{name} must have shape {shape} (None: any), got {x.shape}")
    rows = empty_rows(*x.shape)
    rows[...] = x
    return rows


def _vector(name: str, x: Any, size: int) -> Floats:
    """Return float32 [size], contiguous."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != (size,):
        got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be float32 [{size}], got {got}")
    return np.ascontiguousarray(x)


def _data(x: npt.NDArray[Any] | None) -> int:
    return 0 if x is None else x.ctypes.data


def _run(n_tokens: int, **words: int) -> npt.NDArray[np.int64]:
    """Return a run block; `words` are named like the constants of `abi`."""
    run = np.zeros(abi.RUN_WORDS, np.int64)
    run[abi.N_TOKENS] = n_tokens
    for name, value in words.items():
        run[getattr(abi, name)] = value
    return run


def _rowwise(
    op: abi.Op, inputs: dict[str, Floats], params: dict[str, Any] | None = None, **values: Any
) -> Floats:
    """Run an op whose inputs and output y are rows of one shape; strides are named ld*."""
    first = next(iter(inputs.values()))
    y = empty_rows(*first.shape)
    for name, x in {**inputs, "y": y}.items():
        values[name], values[f"ld{name[0]}"] = x.ctypes.data, x.strides[0]
    if "rows" in op.fields:
        values["rows"] = abi.N_TOKENS
    launch(op, _run(len(first)), params=params or {}, width=first.shape[1], **values)
    return y


def rms_norm(x: Floats, w: Floats | None, eps: float = 1e-6, group: int | None = None) -> Floats:
    """Return x / sqrt(mean(x^2) + eps) * w, the mean taken over each `group` columns.

    x is float32 [T, width], w float32 [group] or None for ones; `group` divides width.
    """
    rows = _rows("x", x)
    group = rows.shape[1] if group is None else group
    if group < 1 or rows.shape[1] % group:
        raise ValueError(f"group must divide the width {rows.shape[1]}, got {group}")
    w = None if w is None else _vector("w", w, group)
    return _rowwise(abi.RMS_NORM, {"x": rows}, w=_data(w), group=group, eps=eps)


def layer_norm(x: Floats, w: Floats | None, b: Floats | None, eps: float = 1e-5) -> Floats:
    """Return (x - mean) / sqrt(var + eps) * w + b along rows of x [T, width]."""
    rows = _rows("x", x)
    w = None if w is None else _vector("w", w, rows.shape[1])
    b = None if b is None else _vector("b", b, rows.shape[1])
    return _rowwise(abi.LAYER_NORM, {"x": rows}, w=_data(w), b=_data(b), eps=eps)


def activation(x: Floats, act: str) -> Floats:
    """Return act(x); `act` is a name of `jitllm.kernels.cpu.activation.ACTS`."""
    return _rowwise(abi.ACTIVATION, {"x": _rows("x", x)}, {"act": act})


def _pair(a: Floats, b: Floats, names: tuple[str, str]) -> dict[str, Floats]:
    first = _rows(names[0], a)
    return {names[0]: first, names[1]: _rows(names[1], b, (first.shape[0], first.shape[1]))}


def glu(gate: Floats, up: Floats, act: str = "silu") -> Floats:
    """Return act(gate) * up, both float32 [T, width]."""
    return _rowwise(abi.GLU, _pair(gate, up, ("gate", "up")), {"act": act})


def add(a: Floats, b: Floats) -> Floats:
    """Return a + b, both float32 [T, width]."""
    return _rowwise(abi.ADD, _pair(a, b, ("a", "b")))


def mul(a: Floats, b: Floats) -> Floats:
    """Return a * b, both float32 [T, width]."""
    return _rowwise(abi.MUL, _pair(a, b, ("a", "b")))


def scale(x: Floats, factor: float) -> Floats:
    """Return x * factor, x float32 [T, width]."""
    return _rowwise(abi.SCALE, {"x": _rows("x", x)}, scale=factor)


def soft_cap(x: Floats, cap: float) -> Floats:
    """Return cap * tanh(x / cap), x float32 [T, width]."""
    return _rowwise(abi.SOFT_CAP, {"x": _rows("x", x)}, cap=cap)


def select_rows(x: Floats, rows: Ints) -> Floats:
    """Return the rows of x [T, width] that `rows`, int [O], names: [O, width]."""
    source, chosen = _rows("x", x), np.ascontiguousarray(rows, np.int32)
    if chosen.size and not (0 <= chosen.min() and chosen.max() < len(source)):
        raise ValueError(f"row numbers must lie in [0, {len(source)}), got {rows}")
    y = empty_rows(len(chosen), source.shape[1])
    run = _run(len(source), N_OUTPUTS=len(chosen), OUTPUT_ROWS=chosen.ctypes.data)
    launch(abi.SELECT_ROWS, run, params={}, x=_data(source), ldx=source.strides[0], y=_data(y),
           ldy=y.strides[0], width=source.shape[1])  # fmt: skip
    return y


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
    """Rotate pairs of columns of every head of x [T, n_heads * head_dim]; see `reference.rope`."""
    source = _rows("x", x, (len(positions), n_heads * head_dim))
    if n_rot % 2 or not 0 <= n_rot <= head_dim:
        raise ValueError(f"n_rot must be even and at most head_dim {head_dim}, got {n_rot}")
    table = np.zeros((n_rot // 2, 2), np.float32)
    table[:, 0] = _vector("frequencies", frequencies, n_rot // 2)
    at, y = np.ascontiguousarray(positions, np.int32), empty_rows(*source.shape)
    run = _run(len(source), POSITIONS=at.ctypes.data)
    launch(abi.ROPE, run, params={"kind": kind}, x=_data(source), ldx=source.strides[0],
           y=_data(y), ldy=y.strides[0], n_heads=n_heads, head_dim=head_dim, n_rot=n_rot,
           table=_data(table), magnitude=magnitude)  # fmt: skip
    return y


def _cache_type(pages: npt.NDArray[Any], kv: str, sizes: tuple[int, int, int]) -> str:
    """Return the types of a cache, checked to have pages of these bytes."""
    kv = kv or {2: "f16", 4: "f32"}.get(pages.itemsize, "")
    if not kv or not pages.flags.c_contiguous or pages.ndim != 2:
        kinds = "float16 or float32, or uint8 and kv is given"
        raise TypeError(f"pages must be 2 contiguous dimensions of {kinds}, got {pages.dtype}")
    n_bytes = abi.PAGE_TOKENS * cache_types.cell_bytes(kv, [sizes])
    if pages.strides[0] != n_bytes:
        raise ValueError(f"a page must have {n_bytes} bytes, got {pages.strides[0]}")
    return cache_types.spelled(kv)


def _segments(
    segments: list[tuple[int, int, Ints]],
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[Any]]]:
    """Return the segment words of (rows, position, page table) and the arrays they point to."""
    words = np.zeros((len(segments), abi.SEGMENT_WORDS), np.int64)
    kept: list[npt.NDArray[Any]] = []
    row = 0
    for line, (n_rows, position, table) in zip(words, segments, strict=True):
        numbers = np.ascontiguousarray(table, np.int32)
        tables = np.array([numbers.ctypes.data], np.int64)
        line[:4] = row, n_rows, position, tables.ctypes.data
        kept += [numbers, tables]
        row += n_rows
    return words, kept


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
    """Write keys and values of consecutive positions into `pages`; see `reference.kv_write`."""
    keys = _rows("k", k)
    values = _rows("v", v, (len(keys), None))
    dk, dv = keys.shape[1] // n_kv_heads, values.shape[1] // n_kv_heads
    kv = _cache_type(pages, kv, (n_kv_heads, dk, dv))
    words, kept = _segments([(len(keys), position, table)])
    run = _run(len(keys), N_SEGMENTS=1, SEGMENTS=words.ctypes.data)
    launch(abi.KV_WRITE, run, params={"kv": kv}, k=_data(keys), ldk=keys.strides[0],
           v=_data(values), ldv=values.strides[0], n_kv_heads=n_kv_heads, dk=dk, dv=dv,
           pages=_data(pages), page_bytes=pages.strides[0], cache=0,
           table_pages=len(table), segments=abi.SEGMENTS)  # fmt: skip
    del kept


def _by_distance(
    slopes: Floats | None, table: Floats | None, n_heads: int, soft_cap: float
) -> tuple[Floats | None, dict[str, Any]]:
    """Return the array at `slopes` of `abi.ATTENTION`, and the kernel's parameters for it."""
    if soft_cap and not (slopes is None and table is None):
        raise ValueError("scores are either capped or lowered by distance, not both")
    if slopes is not None:
        return _vector("slopes", slopes, n_heads), {"alibi": True}
    if table is None:
        return None, {}
    if table.ndim != 2 or len(table) != n_heads or table.shape[1] < 3 or not table.shape[1] % 2:
        raise ValueError(f"table must have shape ({n_heads}, 2 R + 1), got {table.shape}")
    return layout.with_margins(table), {"reach": table.shape[1] // 2}


def paged_attention(
    q: Floats,
    pages: npt.NDArray[Any],
    segments: list[tuple[int, int, Ints]],
    *,
    n_heads: int,
    n_kv_heads: int,
    dv: int,
    scale: float,
    window: int = 0,
    causal: bool = True,
    chunked: bool = False,
    soft_cap: float = 0.0,
    sinks: Floats | None = None,
    slopes: Floats | None = None,
    table: Floats | None = None,
    kv: str = "",
) -> Floats:
    """Return attention of the rows of q over a paged cache that `kv_write` filled.

    Parameters
    ----------
    q : float32 [T, H * dk]
    pages : array [n_pages, ...]
        As for `kv_write`.
    segments : list of (rows, position, table)
        The sequences whose rows follow each other in q: how many rows, the position of the first,
        and the page numbers of its cache. All tables have the same length.
    n_heads, n_kv_heads, dv : int
        H, G and the columns of a value head.
    scale, window, causal, chunked, soft_cap, sinks, slopes, table
        As for `reference.attention`; without `causal` a row sees its segment to the end.
    kv : str, optional
        Type of the cache; by default that of `pages`.

    Returns
    -------
    float32 [T, H * dv]
    """
    queries = _rows("q", q)
    dk, table_pages = queries.shape[1] // n_heads, len(segments[0][2])
    kv = _cache_type(pages, kv, (n_kv_heads, dk, dv))
    if sum(rows for rows, _, _ in segments) != len(queries):
        raise ValueError(f"segments must cover the {len(queries)} rows of q")
    if any(len(table) != table_pages for _, _, table in segments):
        raise ValueError("all page tables must have the same length")
    last = max(position + rows for rows, position, _ in segments)
    n = _n_threads.get()
    sinks = None if sinks is None else _vector("sinks", sinks, n_heads)
    biases, by_distance = _by_distance(slopes, table, n_heads, soft_cap)
    mask = abi.MASK_CHUNK if chunked else abi.MASK_CAUSAL if causal else abi.MASK_NONE
    sizes = {"n_heads": n_heads, "n_threads": n, "max_positions": last}
    size = layout.scratch_bytes(dk, dv, kv=kv, **sizes)
    scratch, out = aligned(n * size), empty_rows(len(queries), n_heads * dv)
    words, kept = _segments(segments)
    run = _run(len(queries), N_SEGMENTS=len(segments), SEGMENTS=words.ctypes.data)
    launch(abi.ATTENTION, run, params={"kv": kv, **by_distance}, q=_data(queries),
           ldq=queries.strides[0], out=_data(out), ldo=out.strides[0], n_heads=n_heads,
           n_kv_heads=n_kv_heads, dk=dk, dv=dv, pages=_data(pages),
           page_bytes=pages.strides[0], cache=0, table_pages=table_pages, window=window,
           mask=mask, scale=scale, soft_cap=soft_cap,
           sinks=_data(sinks), slopes=_data(biases), segments=abi.SEGMENTS,
           scratch=_data(scratch), scratch_bytes=size)  # fmt: skip
    del kept
    return out


def attention(
    q: Floats,
    k: Floats,
    v: Floats,
    q_positions: Ints,
    k_positions: Ints,
    *,
    n_heads: int,
    n_kv_heads: int,
    kv: str = "f16",
    **options: Any,
) -> Floats:
    """Return softmax(cap(q k^T * scale) + mask) v for every head, float32 [T, H * dv].

    As `reference.attention`, with these limits: `k_positions` must be 0, 1, 2, ..., and
    `q_positions` consecutive among them (their end, without `causal`). `kv` is the type of the
    cache that k and v are written to.
    """
    first = int(q_positions[0]) if len(q_positions) else 0
    if not np.array_equal(k_positions, np.arange(len(k))):
        raise ValueError(f"k_positions must be 0 to {len(k) - 1}, got {k_positions}")
    if not np.array_equal(q_positions, np.arange(first, first + len(q))):
        raise ValueError(f"q_positions must be consecutive, got {q_positions}")
    causal_or_end = options.get("causal", True) or first + len(q) == len(k)
    if first < 0 or first + len(q) > len(k) or not causal_or_end:
        raise ValueError(f"queries {first} to {first + len(q) - 1} do not fit {len(k)} keys")
    dk, dv = k.shape[1] // n_kv_heads, v.shape[1] // n_kv_heads
    page_bytes = abi.PAGE_TOKENS * cache_types.cell_bytes(kv, [(n_kv_heads, dk, dv)])
    table = np.arange(-(-len(k) // abi.PAGE_TOKENS))[::-1]
    pages = aligned(len(table) * page_bytes).reshape(-1, page_bytes)
    kv_write(k, v, pages, table, 0, n_kv_heads=n_kv_heads, kv=kv)
    return paged_attention(q, pages, [(len(q), first, table)], n_heads=n_heads, dv=dv,
                           n_kv_heads=n_kv_heads, kv=kv, **options)  # fmt: skip


def top_k_experts(
    logits: Floats,
    k: int,
    *,
    gating: str,
    norm: bool,
    scale: float = 1.0,
    bias: Floats | None = None,
    norm_min: float = 2.0**-14,
    n_group: int = 1,
    topk_group: int = 1,
    experts_per_group: int = 1,
    chosen: Floats | None = None,
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Choose k experts for every row of logits [T, E]; see `reference.top_k_experts`."""
    rows = _rows("logits", logits)
    n_experts = rows.shape[1]
    if not 1 <= k <= n_experts <= 4096:
        raise ValueError(f"need 1 <= k <= experts <= 4096, got k {k}, {n_experts} experts")
    bias = None if bias is None else _vector("bias", bias, n_experts)
    given = None if chosen is None else _rows("chosen", chosen, (len(rows), k))
    ids = np.full((len(rows), k), -1, np.int32)
    weights = np.full((len(rows), k), np.nan, np.float32)
    launch(abi.TOP_K_EXPERTS, _run(len(rows)), params={"gating": gating, "norm": norm},
           logits=_data(rows), ldl=rows.strides[0], bias=_data(bias), n_experts=n_experts, k=k,
           ids=_data(ids), weights=_data(weights), scale=scale, norm_min=norm_min,
           n_group=n_group, topk_group=topk_group, experts_per_group=experts_per_group,
           chosen=_data(given),
           ldc=0 if given is None else given.strides[0])  # fmt: skip
    return ids, weights
