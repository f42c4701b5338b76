"""`sparse_attention`: attention to chosen positions."""

import numpy as np

from jitllm.backends._gpu import sparse
from jitllm.backends._gpu.core import write_cells
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.base import Floats
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the write of keys and values, and attention."""
    attrs, (q, k, *v, chosen) = node.attrs, (lowering.place(value) for value in node.inputs)
    dk, dv = attrs["head_dim"], attrs["v_head_dim"]
    if (
        dk + (dv if v else dk) > 3712
    ):  # every device has 16 KiB of shared memory; other arrays take 1280 bytes
        raise lowering.lacking(f"has heads of {dk} and {dv} numbers")
    pages, kinds, words = sparse.cells(lowering, node)
    write_cells(lowering, node, k, v[0] if v else k)
    y, n_heads, n_kv_heads = lowering.new(node.outputs[0]), attrs["n_heads"], attrs["n_kv_heads"]
    key_bytes, head_bytes = lowering.pools[attrs["cache"]].head_bytes(attrs["layer"])
    sinks = lowering.vector(node.weights[0])
    lowering.emit(
        "sparse_attention",
        [Place("run", 0, 0), q, chosen, y, pages,
         lowering.constant(_lists(attrs["lists"], n_kv_heads)), sinks],
        [q.stride, chosen.stride, y.stride, n_kv_heads, n_heads // n_kv_heads, head_bytes,
         key_bytes, *words, float(attrs["scale"])],
        [y], groups=n_heads, rows="T",
        constants=(*kinds, dk, dv, not v, attrs["joint"], sinks is not None),
    )  # fmt: skip


def _lists(widths: tuple[int, ...], n_kv_heads: int) -> Floats:
    """Return first and end column for every key head."""
    ends = np.cumsum(widths)
    spans = np.stack([ends - widths, ends], axis=1).astype(np.float32)
    return np.ascontiguousarray(spans[np.arange(n_kv_heads) % len(widths)])
