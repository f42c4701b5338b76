"""`delta_net` as an op."""

from typing import Any

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.base import BackendUnavailable
from jitllm.backends.ir import Node
from jitllm.kernels import abi

_FIELDS = (
    "q", "ldq", "k", "ldk", "v", "ldv", "decay", "ldd", "beta", "ldb", "out", "ldo", "n_heads",
    "n_key_heads", "dk", "dv", "tiled", "step", "states", "slot_bytes", "scale:f32",
)  # fmt: skip
# Rows of every segment through the states [H, dk, dv] of its slots; see `reference_delta`. Head h
# reads key head h % n_key_heads if tiled, else h // (H / n_key_heads). `step` is 4 where decay has
# a number for each row of a state, and 0 where it has one for a head. dv is a multiple of 16.
DELTA_NET = abi.Op("delta_net", "delta_net", _FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the recurrence over all segments."""
    attrs, (*_, decay, _) = node.attrs, node.inputs
    n_heads, dk, dv = attrs["n_heads"], attrs["head_dim"], attrs["v_head_dim"]
    if dv % 16:
        raise BackendUnavailable(f"{node.name}: value heads of {dv}, not a multiple of 16")
    buffers = [lowering.buffer(value) for value in node.inputs]
    q, k, v, d, b = buffers
    out = lowering.new(node.outputs[0])
    memory: dict[str, Any] = {**lowering.state_words(node)}
    lowering.planner.emit(
        DELTA_NET, [*buffers], [out], cost=4 * n_heads * dk * dv, q=q, ldq=q.stride, k=k,
        ldk=k.stride, v=v, ldv=v.stride, decay=d, ldd=d.stride, beta=b, ldb=b.stride, out=out,
        ldo=out.stride, n_heads=n_heads, n_key_heads=attrs["n_key_heads"], dk=dk, dv=dv,
        tiled=int(attrs["tiled"]), step=0 if decay.width == n_heads else 4, scale=attrs["scale"],
        **memory,
    )  # fmt: skip
