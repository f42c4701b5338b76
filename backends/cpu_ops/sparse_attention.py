"""Attention to chosen positions as ops: write keys and values, attend."""

import numpy as np
import numpy.typing as npt

from jitllm.backends._cpu import sparse
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi, cache_types
from jitllm.kernels.cpu.sparse_layout import attention_bytes

# out [T, H*dv] = softmax(q k^T * scale) v over chosen positions, float32 rows; `lists` are int64
# [G, 2], first and end column of what key head g reads. If `joint`, every query head reads all key
# heads. sinks: float32 [H] address or 0. Factory parameters kv, keys_only (values are the first dv
# columns of keys).
SPARSE_ATTENTION = abi.Op(
    "sparse_attention", "attention",
    ("q", "ldq", "chosen", "ldc", "out", "ldo", "n_heads", "n_kv_heads", "dk", "dv", "pages",
     "page_bytes", "cache", "lists", "joint", "scale:f32", "sinks", "scratch", "scratch_bytes"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    attrs, keys_only = node.attrs, len(node.inputs) == 3
    q, k, *v, chosen = (lowering.buffer(value) for value in node.inputs)
    sparse.write(lowering, node, k, v[0] if v else k)
    words, pages = sparse.place(lowering, node)
    kv, dk, dv = lowering.pools[attrs["cache"]].kv_dtype, attrs["head_dim"], attrs["v_head_dim"]
    size = attention_bytes(dk, dv, cache_types.row_bytes(kv, 1))
    scratch, out = lowering.take(size * lowering.n_threads), lowering.new(node.outputs[0])
    lists = _lists(attrs["lists"], attrs["n_kv_heads"])
    lowering.constants.append(lists)
    lowering.planner.emit(
        SPARSE_ATTENTION, [q, chosen, pages], [out, scratch],
        cost=attrs["n_heads"] * (dk + dv) * 400, params={"kv": kv, "keys_only": keys_only}, q=q,
        ldq=q.stride, chosen=chosen, ldc=chosen.stride, out=out, ldo=out.stride,
        n_heads=attrs["n_heads"], n_kv_heads=attrs["n_kv_heads"], dk=dk, dv=dv,
        lists=lists.ctypes.data, joint=int(attrs["joint"]), scale=attrs["scale"],
        sinks=lowering.vector(node.weights[0]), scratch=scratch, scratch_bytes=size, **words,
    )  # fmt: skip
    lowering.give(scratch)


def _lists(widths: tuple[int, ...], n_kv_heads: int) -> npt.NDArray[np.int64]:
    """Return first and end column for every key head."""
    ends = np.cumsum(widths)
    spans = np.stack([ends - widths, ends], axis=1).astype(np.int64)
    return np.ascontiguousarray(spans[np.arange(n_kv_heads) % len(widths)])
