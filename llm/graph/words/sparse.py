"""Words of sparse attention: a small index chooses the positions that attention then reads.

================= ================ ==============================================================
op                weights          attrs; what y is
================= ================ ==============================================================
index_positions   ()               cache, layer, n_heads, head_dim, top_k, scale, stride; inputs q,
                                   k, perhaps w. Writes k to the cache; y[t] is the top_k positions
                                   s <= p, s + 1 a multiple of stride, with the largest sum over
                                   heads h of w[t, h] * scale * max(0, q[t, h] . k[s]), w being 1
                                   unless given
index_blocks      ()               cache, layer, n_heads, head_dim, top_k, block, local; inputs q,
                                   k. Writes k; y[t, h] is the positions s <= p of the top_k
                                   blocks of `block` positions with the largest q[t, h] . k[s] of
                                   any s <= p; the last `local` blocks are always among them
whole_blocks      ()               block; input x of ends of blocks. y[t] is the positions of the
                                   blocks of `block` positions that end at x[t], then those s <= p
                                   behind the last whole block
list_positions    ()               window, stride; input x, of which only the rows count. y[t] is
                                   the s <= p with s > p - window (if window) and (s + 1) % stride
                                   == 0, as many as fit
sparse_attention  (sinks (H,) or   cache, layer, n_heads, n_kv_heads, head_dim, v_head_dim, scale,
                  "",)             lists, joint; inputs q, k, v, positions, or q, k, positions:
                                   then values are the first columns of keys. As `attention`, over
                                   chosen positions alone: key head g reads list g (or the only
                                   one) of `lists`, widths side by side; if joint, every query head
                                   reads all key heads
================= ================ ==============================================================

Chosen positions are whole numbers in float32, ascending, followed by -1 where there are fewer. Of
equal scores the lower position, or block, is chosen first.
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder

MAX_POSITIONS = 1 << 24  # beyond, float32 has no number for every position


def index_positions(
    g: GraphBuilder,
    q: Value,
    k: Value,
    w: Value | None,
    *,
    n_heads: int,
    top_k: int,
    scale: float,
    name: str,
    stride: int = 1,
) -> Value:
    """The lightning indexer: the `top_k` best positions of each row, [T, top_k].

    Parameters
    ----------
    g : GraphBuilder
    q, k, w : Value
        [T, H * D], [T, D] and [T, H]; without w heads count alike.
    n_heads, top_k : int
    scale : float
        Of the scores.
    name : str
    stride : int
        Only positions s with s + 1 a multiple of it have keys.

    Notes
    -----
    DeepSeek-AI, "DeepSeek-V3.2", 2025, section 2.1.
    """
    attrs = _index(g, q, k, n_heads, name) | {
        "top_k": top_k, "scale": float(scale), "stride": stride,
    }  # fmt: skip
    if (w and w.width != n_heads) or top_k < 1:
        raise ValueError(f"{name}: weights {w} of {n_heads} heads, top {top_k}")
    inputs = (q, k, w) if w else (q, k)
    return g.node("index_positions", name, inputs, q.rows, top_k, (), attrs)


def whole_blocks(g: GraphBuilder, ends: Value, *, block: int, name: str) -> Value:
    """The positions of blocks that end at `ends` [T, m], and of the one not yet whole: [T, ...].

    `ends` are from this module, each the last position of `block` ones, ascending.
    """
    if block < 1 or g.n_ctx > MAX_POSITIONS:
        raise ValueError(f"{name}: blocks of {block}")
    width = ends.width * block + block - 1
    return g.node("whole_blocks", name, (ends,), ends.rows, width, (), {"block": block})


def index_blocks(
    g: GraphBuilder,
    q: Value,
    k: Value,
    *,
    n_heads: int,
    top_k: int,
    block: int,
    local: int,
    name: str,
) -> Value:
    """The positions of the `top_k` best blocks, for each head of the index: [T, H * top_k * block].

    Parameters
    ----------
    g : GraphBuilder
    q, k : Value
        [T, H * D] and [T, D].
    n_heads, top_k : int
    block : int
        Positions of a block.
    local : int
        Blocks before the row's position, its own included, that are always chosen.
    name : str

    Notes
    -----
    MiniMax, "MiniMax-M3", 2026.
    """
    if min(top_k, block) < 1 or not 0 <= local <= top_k:
        raise ValueError(f"{name}: top {top_k} of blocks of {block}, {local} of them local")
    attrs = _index(g, q, k, n_heads, name) | {"top_k": top_k, "block": block, "local": local}
    return g.node("index_blocks", name, (q, k), q.rows, n_heads * top_k * block, (), attrs)


def _index(g: GraphBuilder, q: Value, k: Value, n_heads: int, name: str) -> dict[str, int | float]:
    if q.width != n_heads * k.width or g.n_ctx > MAX_POSITIONS:
        raise ValueError(f"{name}: {q.width} columns for {n_heads} heads of {k.width}")
    cache, layer = g.cache_place(0, (1, k.width, 0))
    return {"cache": cache, "layer": layer, "n_heads": n_heads, "head_dim": k.width}


def list_positions(
    g: GraphBuilder, x: Value, *, most: int, name: str, window: int = 0, stride: int = 1
) -> Value:
    """The positions s <= p behind p - `window` (0: all) that end `stride` ones: [T, most].

    s + 1 is a multiple of `stride`. `x` is any value with rows "T"; `most` bounds how many.
    """
    if min(most, stride) < 1 or window < 0 or g.n_ctx > MAX_POSITIONS:
        raise ValueError(f"{name}: at most {most} positions, window {window}, stride {stride}")
    attrs = {"window": window, "stride": stride}
    return g.node("list_positions", name, (x,), x.rows, most, (), attrs)


def sparse_attention(
    g: GraphBuilder,
    q: Value,
    k: Value,
    v: Value | None,
    positions: Value,
    *,
    n_heads: int,
    n_kv_heads: int,
    scale: float,
    name: str,
    v_head_dim: int = 0,
    sinks: str = "",
    choices: int = 1,
    lists: tuple[int, ...] = (),
) -> Value:
    """Attention of q [T, H*dk] to chosen positions of the cache with k, v added: [T, H*dv].

    Parameters
    ----------
    g : GraphBuilder
    q, k, v : Value
        [T, H * dk], [T, G * dk] and [T, G * dv]. Without v, values are the first `v_head_dim`
        columns of the keys, and the cache holds keys alone.
    positions : Value
        [T, choices * most positions], from this module; one choice for all key heads, or one for
        each.
    n_heads, n_kv_heads : int
        H and G.
    scale : float
    name : str
    v_head_dim : int
    sinks : str
        Tensor (H,), one more logit of each head, in the denominator only; or "".
    choices : int
        1 or G.
    lists : tuple of int, optional
        Widths of G choices side by side. Then every query head attends to all of them together, to
        those of choice g with key head g.
    """
    dk = q.width // n_heads
    dv = v_head_dim if v is None else v.width // n_kv_heads
    if k.width != n_kv_heads * dk or n_heads % n_kv_heads or choices not in (1, n_kv_heads):
        raise ValueError(f"{name}: {n_heads} heads, keys of {n_kv_heads}, {choices} choices")
    if lists and (len(lists) != n_kv_heads or sum(lists) != positions.width):
        raise ValueError(f"{name}: lists {lists} in {positions.width} columns")
    if not 0 < dv or (v is None and dv > dk):
        raise ValueError(f"{name}: values of {dv} columns in keys of {dk}")
    if sinks:
        g.weight(sinks, (n_heads,))
    cache, layer = g.cache_place(0, (n_kv_heads, dk, 0 if v is None else dv))
    most = positions.width // choices
    attrs = {
        "cache": cache, "layer": layer, "n_heads": n_heads, "n_kv_heads": n_kv_heads,
        "head_dim": dk, "v_head_dim": dv, "scale": float(scale), "joint": bool(lists),
        "lists": lists or (most,) * choices,
    }  # fmt: skip
    inputs = (q, k, positions) if v is None else (q, k, v, positions)
    return g.node("sparse_attention", name, inputs, q.rows, n_heads * dv, (sinks,), attrs)
