"""`open_experts`: `experts` whose products can be watched and added to.

It has two more attributes, each with an entry for gate, up and down, which may be None:

========= =========================================================================================
squares   (sums, counts), float32 [E, K] and int32 [E], the caller's: every run adds the squares of
          the rows that each expert's matrix is multiplied by, and their number
adapters  (a, b, gain): weights (E, R, K) and (E, N, R) of float types, and float32 [R], which is
          read at every run: b_e (gain * a_e x) is added to the product of expert e
========= =========================================================================================
"""

from typing import Any

from jitllm.backends._cpu.experts import ExpertOps
from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.plan import Buffer
from jitllm.backends.ir import Node
from jitllm.kernels import abi

# sums[expert of slot] += x[slot]^2 and counts[expert] += 1 for used slots: index and tile_experts
# from ROUTE, sums float32 [E, width] with rows lds bytes apart, counts int32 [E]. Factory parameter
# tile_rows.
SQUARE_SUMS = abi.Op(
    "square_sums", "square_sums",
    ("x", "ldx", "index", "tile_experts", "sums", "lds", "counts", "width"),
)  # fmt: skip


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the experts, and what belongs to their products."""
    _OpenExperts(lowering, node).emit(lowering.new(node.outputs[0]))


class _OpenExperts(ExpertOps):
    def _route(self, ids: Buffer) -> tuple[Buffer, Buffer, Buffer]:
        self._index, experts, slot_of = super()._route(ids)
        return self._index, experts, slot_of

    def _product(self, x: Buffer, part: int, experts: Buffer) -> Buffer:
        squares, adapter = self.attrs["squares"][part], self.attrs["adapters"][part]
        if squares is not None:
            self._watch(x, part, experts, *squares)
        y = super()._product(x, part, experts)
        if adapter is not None:
            self._add(x, y, experts, *adapter)
        return y

    def _watch(self, x: Buffer, part: int, experts: Buffer, sums: Any, counts: Any) -> None:
        self.lowering.constants += [sums, counts]
        width = self.lowering.weights[self.node.weights[part]].k
        self.lowering.planner.emit(
            SQUARE_SUMS, [x, self._index, experts], [], cost=2 * self.k * width,
            params={"tile_rows": self.tile_rows}, x=x, ldx=x.stride, index=self._index,
            tile_experts=experts, sums=sums.ctypes.data, lds=sums.strides[0],
            counts=counts.ctypes.data, width=width,
        )  # fmt: skip

    def _add(self, x: Buffer, y: Buffer, experts: Buffer, a: str, b: str, gain: Any) -> None:
        low = self._thin(x, a, experts)
        self.lowering.constants.append(gain)
        emit, rank = self.lowering.planner.emit, len(gain)
        emit(
            abi.MUL, [low], [low], cost=2 * self.k * rank, rows=abi.N_SLOTS, a=low,
            lda=low.stride, b=gain.ctypes.data, ldb=0, y=low, ldy=low.stride, width=rank,
        )  # fmt: skip
        more, width = self._thin(low, b, experts), self.lowering.weights[b].n
        emit(
            abi.ADD, [y, more], [y], cost=2 * self.k * width, rows=abi.N_SLOTS, a=y, lda=y.stride,
            b=more, ldb=more.stride, y=y, ldy=y.stride, width=width,
        )  # fmt: skip

    def _thin(self, x: Buffer, weight: str, experts: Buffer) -> Buffer:
        """Emit the product with a stack of float weights."""
        w = self.lowering.weights[weight]
        y = self._rows(w.n)
        self.lowering.planner.emit(
            abi.EXPERT_MATMUL_FLOAT, [x, experts], [y], cost=4 * self.k * w.n * w.k,
            params={"fmt": w.type_name, "tile_rows": self.tile_rows}, w=w.address, n=w.n, k=w.k,
            x=x, ldx=x.stride, y=y, ldy=y.stride, tile_experts=experts, scales=0, biases=0,
            matrix_bytes=w.matrix_bytes, **self.lowering.scratch_words(),
        )  # fmt: skip
        return y
