"""`experts`: a mixture of feed-forward networks, of which each row uses a few."""

from typing import Any

from jitllm.backends._gpu.core import ACTIVATION, BOUNDED_GLU, GLU
from jitllm.backends._gpu.dispatch import Place
from jitllm.backends._gpu.lower import ACTIVATIONS, FORMS, LANES, Lowering
from jitllm.backends.ir import Node

GATINGS = ("softmax", "sigmoid", "sqrt_softplus", "softmax_topk", "sigmoid_topk")
_MOST_GROUPS = 64  # of the kernel "route"
_MOST_EXPERTS = 1024  # whose scores and ranks fit beside other shared memory


def lower(lowering: Lowering, node: Node) -> None:
    """Emit routing, the products of the chosen experts, and their sum."""
    Experts(lowering, node).emit()


class Experts:
    """The dispatches of one node. Its inner values have k rows for each row of the run."""

    def __init__(self, lowering: Lowering, node: Node) -> None:
        self.lowering, self.node, self.attrs = lowering, node, node.attrs
        self.k, self.rows = node.attrs["k"], node.inputs[0].rows
        self.ids, self.weights = (lowering.take(self.rows, self.k) for _ in range(2))
        self._taken = [self.ids, self.weights]

    def emit(self) -> None:
        """Emit everything."""
        lowering, out = self.lowering, self.node.outputs[0]
        self._route()
        y, parts = lowering.new(out), self.new(out.width)
        self.product(2, self._middle(lowering.place(self.node.inputs[0])), parts, 1)
        lowering.emit(
            "weighted_sum", [lowering.count(self.rows), parts, self.weights, y],
            [parts.stride, y.stride, out.width, self.k], [y], groups=-(-out.width // LANES),
            rows=self.rows, constants=(not self.attrs["weigh_input"],),
        )  # fmt: skip
        for place in self._taken:
            lowering.give(place)

    def new(self, columns: int) -> Place:
        """Return a place for k rows of each row of the run."""
        place = self.lowering.take(self.rows, self.k * columns)
        self._taken.append(place)
        return Place(self.rows, place.start, place.size, stride=columns)

    def product(self, part: int, x: Place, y: Place, x_fan: int) -> None:
        """Emit the product with the stack `part` of the node's weights, gate, up or down.

        `x_fan` is k where x has a row for each of the run, 1 where it has k.
        """
        name = self.node.weights[part]
        scales, biases = (
            self.lowering.constant(self.attrs[key][part]) for key in ("scales", "biases")
        )
        self.multiply(name, x, y, x_fan, weigh=part < 2, scales=scales, bias=biases)

    def multiply(
        self, name: str, x: Place, y: Place, x_fan: int, *, weigh: bool, **options: Any
    ) -> None:
        """Emit a product with the chosen matrices of a stack; `weigh`: x counts by its weights."""
        weighs = self.attrs["weigh_input"] and weigh
        self.lowering.product(
            self.lowering.weights[name], x, y, self.rows, ids=self.ids,
            weights=self.weights if weighs else None, fan=self.k, x_fan=x_fan, **options,
        )  # fmt: skip

    def _middle(self, x: Place) -> Place:
        """Emit the products and the activation before the last product."""
        gate, up = self.node.weights[:2]
        width = self.lowering.weights[up].n
        n_ff = width // 2 if self.attrs["fused"] else width
        raw, h = self.new(width), self.new(n_ff)
        self.product(1, x, raw, self.k)
        if self.attrs["fused"]:
            self._gated(raw, raw.columns(n_ff), h, n_ff)
        elif gate:
            opened = self.new(n_ff)
            self.product(0, x, opened, self.k)
            self._gated(opened, raw, h, n_ff)
        else:
            act = ACTIVATIONS.index(self.attrs["act"])
            self.lowering.apply(ACTIVATION, raw, h, n_ff, self.rows, act=act, fan=self.k)
        return h

    def _gated(self, gate: Place, up: Place, h: Place, width: int) -> None:
        act = self.attrs["act"]
        reader = self.lowering.weights[self.node.weights[2]]
        shared: dict[str, Any] = {"ldb": up.stride, "fan": self.k, "reader": reader}
        if act in FORMS:
            shared |= {"act": FORMS.index(act), "bounds": self.attrs["bounds"]}
            self.lowering.binary(BOUNDED_GLU, gate, up, h, width, self.rows, **shared)
        else:
            shared["act"] = ACTIVATIONS.index(act)
            self.lowering.binary(GLU, gate, up, h, width, self.rows, **shared)

    def _route(self) -> None:
        """Emit the choice of experts; rows of ids and weights lie k apart."""
        attrs, (x, logits, *chosen), lowering = self.attrs, self.node.inputs, self.lowering
        if attrs["n_group"] > _MOST_GROUPS or logits.width > _MOST_EXPERTS:
            raise lowering.lacking(
                f"routes to {logits.width} experts in {attrs['n_group']} groups, which may be "
                f"{_MOST_EXPERTS} in {_MOST_GROUPS}"
            )
        bias, own = lowering.vector(self.node.weights[3]), lowering.place(logits)
        given = lowering.place(chosen[0]) if chosen else None
        lowering.emit(
            "route", [lowering.count(x.rows), own, bias, given, self.ids, self.weights],
            [own.stride, given.stride if given else 0, attrs["n_group"], attrs["topk_group"],
             attrs["experts_per_group"], float(attrs["norm_min"]), float(attrs["factor"])],
            [self.ids, self.weights], groups=1, rows=x.rows,
            constants=(
                GATINGS.index(attrs["gating"]), logits.width, self.k, attrs["norm"],
                bias is not None, given is not None,
            ),
        )  # fmt: skip
