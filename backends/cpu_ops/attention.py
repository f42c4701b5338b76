"""Attention on the CPU: one op writes keys and values to their pages, one walks the pages."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jitllm.backends._cpu.threads import aligned
from jitllm.backends.ir import Node
from jitllm.kernels import abi, cache_types
from jitllm.kernels.cpu import attention_layout

if TYPE_CHECKING:
    from jitllm.backends._cpu.lower import Lowering


def lower(lowering: "Lowering", node: Node) -> None:
    """Emit the write, if the node has keys of its own, and the attention."""
    attrs, emit = node.attrs, lowering.planner.emit
    n_heads, dk, dv = attrs["n_heads"], attrs["head_dim"], attrs["v_head_dim"]
    q, *kv = (lowering.buffer(value) for value in node.inputs)
    alone = attrs["cache"] < 0
    where, pages, kind, positions = (_pages_alone if alone else pages_of)(lowering, node)
    if attrs["cross"]:
        where["segments"] = abi.SEGMENTS_CROSS
    if kv:
        k, v = kv
        emit(
            abi.KV_WRITE, [k, v], [pages], cost=4 * attrs["n_kv_heads"] * (dk + dv),
            params={"kv": kind}, k=k, ldk=k.stride, v=v, ldv=v.stride, **where,
        )  # fmt: skip
    size = attention_layout.scratch_bytes(
        dk, dv, n_heads=n_heads, n_threads=lowering.n_threads, max_positions=positions, kv=kind
    )
    scratch, out = lowering.take(size * lowering.n_threads), lowering.new(node.outputs[0])
    slopes, by_distance = _by_distance(lowering, attrs)
    emit(
        abi.ATTENTION, [q, pages], [out, scratch], cost=n_heads * (dk + dv) * 400,
        params={"kv": kind, **by_distance}, q=q, ldq=q.stride, out=out, ldo=out.stride,
        n_heads=n_heads, window=attrs["window"], mask=_mask(attrs), scale=attrs["scale"],
        soft_cap=attrs["soft_cap"],
        sinks=lowering.vector(node.weights[0]), slopes=slopes, scratch=scratch,
        scratch_bytes=size, **where,
    )  # fmt: skip
    lowering.give(scratch)
    if alone:
        lowering.give(pages)


def _mask(attrs: Any) -> int:
    if attrs["chunked"]:
        return abi.MASK_CHUNK
    return abi.MASK_CAUSAL if attrs["causal"] else abi.MASK_NONE


def _by_distance(lowering: "Lowering", attrs: Any) -> tuple[int, dict[str, Any]]:
    """Return the address of what distances do to scores, and the kernel's parameters for it."""
    if attrs["slopes"] is not None:
        return _kept(lowering, attrs["slopes"]), {"alibi": True}
    if attrs["table"] is None:
        return 0, {}
    reach = attrs["table"].shape[1] // 2
    return _kept(lowering, attention_layout.with_margins(attrs["table"])), {"reach": reach}


def _kept(lowering: "Lowering", values: Any) -> int:
    kept = aligned(4 * values.size).view(np.float32)
    kept[:] = values.reshape(-1)
    lowering.constants.append(kept)
    return int(kept.ctypes.data)


def pages_of(lowering: "Lowering", node: Node) -> tuple[dict[str, Any], Any, str, int]:
    """Words that say where the cache is, what a barrier knows it by, its type and positions."""
    cache, layer = node.attrs["cache"], node.attrs["layer"]
    pool = lowering.pools[cache]
    heads, dk, dv = pool.spec.layers[layer]
    where = {
        "n_kv_heads": heads, "dk": dk, "dv": dv, "pages": pool.address(layer),
        "page_bytes": pool.layer_bytes(layer), "cache": cache, "table_pages": 0,
        "segments": abi.SEGMENTS,
    }  # fmt: skip
    return where, ((cache, layer), 0, 1), pool.kv_dtype, pool.n_pages * abi.PAGE_TOKENS


def _pages_alone(lowering: "Lowering", node: Node) -> tuple[dict[str, Any], Any, str, int]:
    """The same for keys of this run only: pages in the plan's memory.

    There is a page for every row, as each may be a sequence of its own. Pages that are not used
    take no memory.
    """
    attrs = node.attrs
    heads, dk, dv = attrs["n_kv_heads"], attrs["head_dim"], attrs["v_head_dim"]
    kind = "f32" if lowering.exact else "f16"
    page_bytes = abi.PAGE_TOKENS * cache_types.cell_bytes(kind, [(heads, dk, dv)])
    pages = lowering.take(lowering.max_tokens * page_bytes)
    where = {
        "n_kv_heads": heads, "dk": dk, "dv": dv, "pages": pages, "page_bytes": page_bytes,
        "cache": 0, "table_pages": 0, "segments": abi.SEGMENTS_ALONE,
    }  # fmt: skip
    return where, pages, kind, lowering.max_tokens
