"""Attention to chosen positions as ops: write keys and values, attend."""

import numpy as np

from jitllm.backends import _cpu_sparse as sparse
from jitllm.backends._cpu_lower import Lowering
from jitllm.backends._cpu_memory import KV_DTYPES
from jitllm.backends.ir import Node
from jitllm.kernels import abi
from jitllm.kernels.cpu.sparse_layout import attention_bytes

# out [T, H*dv] = softmax(q k^T * scale) v over `most` chosen positions of each of `choices` groups
# of key heads, float32 [T, choices * most]; sinks: float32 [H] address or 0. Factory parameter kv.
SPARSE_ATTENTION = abi.Op(
    "sparse_attention", "attention",
    ("q", "ldq", "chosen", "ldc", "out", "ldo", "n_heads", "n_kv_heads", "dk", "dv", "pages",
     "page_bytes", "cache", "choices", "most", "scale:f32", "sinks", "scratch", "scratch_bytes"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the ops."""
    attrs = node.attrs
    q, k, v, chosen = (lowering.buffer(value) for value in node.inputs)
    sparse.write(lowering, node, k, v)
    words, pages = sparse.place(lowering, node)
    kv, dk, dv = lowering.pools[attrs["cache"]].kv_dtype, attrs["head_dim"], attrs["v_head_dim"]
    size = attention_bytes(dk, dv, np.dtype(KV_DTYPES[kv]).itemsize)
    scratch, out = lowering.take(size * lowering.n_threads), lowering.new(node.outputs[0])
    most = node.inputs[3].width // attrs["choices"]
    lowering.planner.emit(
        SPARSE_ATTENTION, [q, chosen, pages], [out, scratch],
        cost=attrs["n_heads"] * (dk + dv) * 400, params={"kv": kv}, q=q, ldq=q.stride,
        chosen=chosen, ldc=chosen.stride, out=out, ldo=out.stride, n_heads=attrs["n_heads"],
        n_kv_heads=attrs["n_kv_heads"], dk=dk, dv=dv, choices=attrs["choices"], most=most,
        scale=attrs["scale"], sinks=lowering.vector(node.weights[0]), scratch=scratch,
        scratch_bytes=size, **words,
    )  # fmt: skip
    lowering.give(scratch)
