"""`open_experts`: see the file of this name in `cpu_ops`."""

from typing import Any

from jitllm.backends._gpu.core import ADD, MUL
from jitllm.backends._gpu.dispatch import MOST_ROWS, Form, Place
from jitllm.backends._gpu.lower import LANES, Lowering
from jitllm.backends.gpu_ops.experts import Experts
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the experts, and what belongs to their products."""
    _OpenExperts(lowering, node).emit()


class _OpenExperts(Experts):
    def product(self, part: int, x: Place, y: Place, x_fan: int) -> None:
        squares, adapter = self.attrs["squares"][part], self.attrs["adapters"][part]
        if squares is not None:
            self._watch(x, x_fan, part < 2, *squares)
        super().product(part, x, y, x_fan)
        if adapter is not None:
            self._add(x, y, x_fan, part < 2, *adapter)

    def _watch(self, x: Place, x_fan: int, weigh: bool, sums: Any, counts: Any) -> None:
        """Emit sums of squares of what the chosen experts read; runs add them to the arrays."""
        lowering, (n_experts, width) = self.lowering, sums.shape
        found = lowering.take_bytes("fixed", 4 * sums.size)  # for good: the host reads it
        n_found = lowering.take_bytes("fixed", 4 * n_experts)
        weights = self.weights if self.attrs["weigh_input"] and weigh else None
        spans = -(-width // LANES)
        addresses = lowering.count(self.rows, self.k), self.ids, x, weights, found, n_found
        form = Form(
            "square_sums", (weights is not None,), addresses, (x.stride, width, x_fan, spans),
            n_experts * spans, MOST_ROWS,
        )  # fmt: skip
        lowering.emit_forms([form], [found, n_found], self.rows, fan=self.k)
        lowering.totals += [(self.rows, found, sums), (self.rows, n_found, counts)]

    def _add(self, x: Place, y: Place, x_fan: int, weigh: bool, a: str, b: str, gain: Any) -> None:
        """Emit y += b (gain * a x) of the chosen experts; the gain is read at every run."""
        lowering, width = self.lowering, self.lowering.weights[b].n
        factors = lowering.run_place(4 * len(gain))
        lowering.copies.append((factors, gain))
        low, more = self.new(len(gain)), self.new(width)
        self.multiply(a, x, low, x_fan, weigh=weigh)
        shared: dict[str, Any] = {"rows": self.rows, "fan": self.k}
        lowering.binary(MUL, low, factors, low, len(gain), ldb=0, **shared)
        self.multiply(b, low, more, 1, weigh=False)
        lowering.binary(ADD, y, more, y, width, ldb=more.stride, **shared)
