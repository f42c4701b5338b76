"""Mixture-of-experts nodes as ops: choose, sort into slots, three products, add up."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jitllm.backends._cpu.memory import PackedShape
from jitllm.backends._cpu.plan import LINE, Buffer
from jitllm.backends._cpu.threads import aligned
from jitllm.backends.base import BackendUnavailable, Floats
from jitllm.backends.cpu_ops import bounded_glu
from jitllm.backends.ir import Node
from jitllm.kernels import abi, formats, packed
from jitllm.kernels import level as levels
from jitllm.kernels.reference.gated import FORMS

if TYPE_CHECKING:
    from jitllm.backends._cpu.lower import Lowering


class ExpertOps:
    """The ops of one node. Rows of its inner values are slots: see `kernels/cpu/experts.py`."""

    def __init__(self, lowering: "Lowering", node: Node) -> None:
        self.lowering, self.node, self.attrs = lowering, node, node.attrs
        self.n_experts, self.k = node.inputs[1].width, node.attrs["k"]
        self.n_stacked = self.n_experts // node.attrs["experts_per_group"]
        self.tile_rows = levels.current().tile[1]
        self.slots = abi.expert_slots(lowering.max_tokens, self.k, self.n_experts, self.tile_rows)
        self.taken: list[Buffer] = []

    def emit(self, y: Buffer) -> None:
        """Emit everything; `y` gets the result."""
        x_value = self.node.inputs[0]
        ids, weights = self._choose()
        index, experts, slot_of = self._route(ids)
        x = self._rows(x_value.width)
        source = self.lowering.buffer(x_value)
        self.lowering.planner.emit(
            abi.GATHER, [source, index], [x], cost=2 * self.k * x_value.width, x=source,
            ldx=source.stride, index=index, y=x, ldy=x.stride, width=x_value.width,
        )  # fmt: skip
        if self.attrs["weigh_input"]:
            self._weigh(x, slot_of, weights, x_value.width)
        parts = self._product(self._middle(x, experts), 2, experts)
        kept = [] if self.attrs["weigh_input"] else [weights]
        self.lowering.planner.emit(
            abi.COMBINE, [parts, slot_of, *kept], [y], cost=2 * self.k * x_value.width,
            x=parts, ldx=parts.stride, slot_of=slot_of, weights=kept[0] if kept else 0, k=self.k,
            y=y, ldy=y.stride, width=x_value.width,
        )  # fmt: skip
        for buffer in self.taken:
            self.lowering.give(buffer)

    def _middle(self, x: Buffer, experts: Buffer) -> Buffer:
        """Emit the products and the activation before the last product."""
        gate, up = self.node.weights[:2]
        width, h = self.lowering.weights[up].n, self._product(x, 1, experts)
        if self.attrs["fused"]:
            if width % 32:
                raise BackendUnavailable(
                    f"{self.node.name}: rows of fused experts must be a multiple of 32, got {width}"
                )
            half = width // 2
            second = Buffer(h.start + 4 * half, h.stride, h.size - 4 * half)
            return self._glu(h, second, half)
        if gate:
            return self._glu(self._product(x, 0, experts), h, width)
        return self._activate(h, width)

    def _weigh(self, x: Buffer, slot_of: Buffer, weights: Buffer, width: int) -> None:
        self.lowering.planner.emit(
            abi.WEIGH, [x, slot_of, weights], [x], cost=2 * self.k * width, slot_of=slot_of,
            weights=weights, k=self.k, y=x, ldy=x.stride, width=width,
        )  # fmt: skip

    def _take(self, size: int, stride: int = 0) -> Buffer:
        taken = self.lowering.take(size)
        self.taken.append(taken)
        return Buffer(taken.start, stride, size)

    def _rows(self, width: int) -> Buffer:
        stride = -(-4 * width // LINE) * LINE
        return self._take(stride * self.slots, stride)

    def _choose(self) -> tuple[Buffer, Buffer]:
        logits = self.lowering.buffer(self.node.inputs[1])
        pairs = 4 * self.lowering.max_tokens * self.k
        ids, weights = self._take(pairs), self._take(pairs)
        chosen = [self.lowering.buffer(value) for value in self.node.inputs[2:]]
        params = {"gating": self.attrs["gating"], "norm": self.attrs["norm"]}
        names = ("norm_min", "n_group", "topk_group", "experts_per_group")
        same = {name: self.attrs[name] for name in names}
        self.lowering.planner.emit(
            abi.TOP_K_EXPERTS, [logits, *chosen], [ids, weights], cost=8 * self.n_experts,
            params=params, logits=logits, ldl=logits.stride,
            bias=self.lowering.vector(self.node.weights[3]), n_experts=self.n_experts, k=self.k,
            ids=ids, weights=weights, scale=self.attrs["factor"], **same,
            chosen=chosen[0] if chosen else 0, ldc=chosen[0].stride if chosen else 0,
        )  # fmt: skip
        return ids, weights

    def _route(self, ids: Buffer) -> tuple[Buffer, Buffer, Buffer]:
        index, experts = self._take(4 * self.slots), self._take(4 * self.slots)
        slot_of = self._take(4 * self.lowering.max_tokens * self.k)
        self.lowering.planner.emit(
            abi.ROUTE, [ids], [index, experts, slot_of], cost=self.n_experts * self.k,
            params={"tile_rows": self.tile_rows}, ids=ids, n_experts=self.n_stacked, k=self.k,
            index=index, tile_experts=experts, slot_of=slot_of,
        )  # fmt: skip
        return index, experts, slot_of

    def _product(self, x: Buffer, part: int, experts: Buffer) -> Buffer:
        """Emit the product with the stack `part` of the node's weights."""
        w = self.lowering.weights[self.node.weights[part]]
        as_float = self.lowering.exact or formats.get(w.type_name).scales == "float"
        y = self._rows(w.n)
        params: dict[str, Any] = {"fmt": w.type_name}
        source = x if as_float else self._quantize(x, w)
        values: dict[str, Any] = {
            "w": w.address, "n": w.n, "k": w.k, "x": source, "y": y, "ldy": y.stride,
            "tile_experts": experts, "scales": self._constant(self.attrs["scales"][part]),
            "biases": self._constant(self.attrs["biases"][part]),
            "matrix_bytes": w.matrix_bytes, **self.lowering.scratch_words(),
        }  # fmt: skip
        if as_float:
            values["ldx"], params["tile_rows"] = x.stride, self.tile_rows
        self.lowering.planner.emit(
            abi.EXPERT_MATMUL_FLOAT if as_float else abi.EXPERT_MATMUL, [source, experts], [y],
            cost=self.k * w.n * w.k * (4 if as_float else 1), params=params, **values,
        )  # fmt: skip
        return y

    def _quantize(self, x: Buffer, w: PackedShape) -> Buffer:
        out = self._take(packed.activation_bytes(self.slots, w.k, self.tile_rows))
        self.lowering.planner.emit(
            abi.QUANTIZE, [x], [out], cost=8 * self.k * w.k, params={"tile_rows": self.tile_rows},
            rows=abi.N_SLOTS, x=x, ldx=x.stride, out=out, width=w.k,
        )  # fmt: skip
        return out

    def _glu(self, gate: Buffer, up: Buffer, width: int) -> Buffer:
        y, act = self._rows(width), self.attrs["act"]
        if act in FORMS:
            bounds, planner = self.attrs["bounds"], self.lowering.planner
            bounded_glu.emit(planner, abi.N_SLOTS, gate, up, y, width, act, bounds)
            return y
        self.lowering.planner.emit(
            abi.GLU, [gate, up], [y], cost=20 * self.k * width, params={"act": act},
            rows=abi.N_SLOTS, gate=gate, ldg=gate.stride, up=up, ldu=up.stride, y=y,
            ldy=y.stride, width=width,
        )  # fmt: skip
        return y

    def _activate(self, x: Buffer, width: int) -> Buffer:
        y = self._rows(width)
        self.lowering.planner.emit(
            abi.ACTIVATION, [x], [y], cost=20 * self.k * width, params={"act": self.attrs["act"]},
            rows=abi.N_SLOTS, x=x, ldx=x.stride, y=y, ldy=y.stride, width=width,
        )  # fmt: skip
        return y

    def _constant(self, values: Floats | None) -> int:
        """Return the address of values that the plan keeps, 0 for none; rows are whole lines."""
        if values is None:
            return 0
        rows = values if values.ndim == 1 else np.pad(values, ((0, 0), (0, -values.shape[1] % 16)))
        kept = aligned(4 * rows.size).view(np.float32)
        kept[:] = rows.reshape(-1)
        self.lowering.constants.append(kept)
        return int(kept.ctypes.data)
