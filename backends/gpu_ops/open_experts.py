"""`open_experts`: `experts` whose products are added to; see the file of this name in `cpu_ops`."""

from typing import Any

from jitllm.backends._gpu.core import ADD, MUL
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends.gpu_ops.experts import Experts
from jitllm.backends.ir import Node


def lower(lowering: Lowering, node: Node) -> None:
    """Emit the experts, and what is added to their products."""
    if any(squares is not None for squares in node.attrs["squares"]):
        raise lowering.lacking("adds up squares of what experts read")
    _OpenExperts(lowering, node).emit()


class _OpenExperts(Experts):
    def product(self, part: int, x: Place, y: Place, x_fan: int) -> None:
        super().product(part, x, y, x_fan)
        adapter = self.attrs["adapters"][part]
        if adapter is not None:
            self._add(x, y, x_fan, part < 2, *adapter)

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
