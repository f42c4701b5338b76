"""`wkv` as an op."""

from typing import Any

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends.ir import Node
from jitllm.kernels import abi

_FIELDS = (
    "r", "ldr", "k", "ldk", "v", "ldv", "w", "ldw", "erase", "lde", "rate", "lda", "y", "ldy",
    "n_heads", "n_key_heads", "dk", "dv", "states", "slot_bytes",
)  # fmt: skip
# The recurrence of `llm/graph/words/wkv.py` over all segments, with states float32 [H, dk, dv].
# Factory parameter form; erase and rate are 0 unless it is "delta".
WKV = abi.Op("wkv", "wkv", _FIELDS)


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the recurrence."""
    heads, key_heads = node.attrs["n_heads"], node.attrs["n_key_heads"]
    dk, dv = node.inputs[0].width // heads, node.outputs[0].width // heads
    inputs, y = [lowering.buffer(x) for x in node.inputs], lowering.new(node.outputs[0])
    values: dict[str, Any] = {**lowering.state_words(node), "erase": 0, "rate": 0}
    strides = {"erase": "lde", "rate": "lda"}
    for name, x in zip(("r", "k", "v", "w", "erase", "rate"), inputs, strict=False):
        values |= {name: x, strides.get(name, f"ld{name}"): x.stride}
    lowering.planner.emit(
        WKV, [*inputs], [y], cost=4 * heads * dk * dv, params={"form": node.attrs["form"]}, y=y,
        ldy=y.stride, n_heads=heads, n_key_heads=key_heads, dk=dk, dv=dv,
        **{"lde": 0, "lda": 0, **values},
    )  # fmt: skip
