"""`experts`: a mixture of feed-forward networks, of which each row uses a few."""

from typing import Any

from jitllm.backends._gpu_core import BOUNDED_GLU, GLU
from jitllm.backends._gpu_lower import ACTIVATIONS, FORMS, LANES, Lowering, Place
from jitllm.backends.ir import Node

GATINGS = ("softmax", "sigmoid", "sqrt_softplus", "softmax_topk", "sigmoid_topk")
_MOST_GROUPS = 64  # of the kernel "route"
_MOST_EXPERTS = 1024  # whose scores and ranks fit beside other shared memory


def lower(lowering: Lowering, node: Node) -> None:
    """Emit routing, the products of the chosen experts, and their sum."""
    attrs, rows, out = node.attrs, node.inputs[0].rows, node.outputs[0]
    gate, up, down, _ = node.weights
    k, x = attrs["k"], lowering.place(node.inputs[0])
    ids, weights = lowering.take(rows, k), lowering.take(rows, k)
    _route(lowering, node, ids, weights)
    width = lowering.weights[up].n
    n_ff = width // 2 if attrs["fused"] else width
    y, taken = lowering.new(out), [ids, weights]

    def new(columns: int) -> Place:
        """A row for each expert of a row: as many rows beside each other as there are experts."""
        place = lowering.take(rows, k * columns)
        taken.append(place)
        return Place(rows, place.start, place.size, stride=columns)

    def product(name: str, part: int, source: Place, target: Place, x_fan: int) -> None:
        scales, biases = (lowering.constant(attrs[key][part]) for key in ("scales", "biases"))
        weighs = attrs["weigh_input"] and x_fan == k and part < 2
        lowering.product(
            lowering.weights[name], source, target, rows, bias=biases, scales=scales, ids=ids,
            weights=weights if weighs else None, fan=k, x_fan=x_fan,
        )  # fmt: skip

    raw, h = new(width), new(n_ff)
    product(up, 1, x, raw, k)
    if attrs["fused"]:
        _gated(lowering, node, raw, raw.columns(n_ff), h, n_ff)
    elif gate:
        opened = new(n_ff)
        product(gate, 0, x, opened, k)
        _gated(lowering, node, opened, raw, h, n_ff)
    else:
        _activated(lowering, node, raw, h, n_ff)
    parts = new(out.width)
    product(down, 2, h, parts, 1)
    lowering.emit(
        "weighted_sum", [lowering.count(rows), parts, weights, y],
        [parts.stride, y.stride, out.width, k], [y], groups=-(-out.width // LANES), rows=rows,
        constants=(not attrs["weigh_input"],),
    )  # fmt: skip
    for place in taken:
        lowering.give(place)


def _route(lowering: Lowering, node: Node, ids: Place, weights: Place) -> None:
    """Emit the choice of experts; rows of ids and weights lie k apart."""
    attrs, (x, logits, *chosen) = node.attrs, node.inputs
    if attrs["n_group"] > _MOST_GROUPS or logits.width > _MOST_EXPERTS:
        raise lowering.lacking(
            f"routes to {logits.width} experts in {attrs['n_group']} groups, which may be "
            f"{_MOST_EXPERTS} in {_MOST_GROUPS}"
        )
    bias, own = lowering.vector(node.weights[3]), lowering.place(logits)
    given = lowering.place(chosen[0]) if chosen else None
    lowering.emit(
        "route", [lowering.count(x.rows), own, bias, given, ids, weights],
        [own.stride, given.stride if given else 0, attrs["n_group"], attrs["topk_group"],
         attrs["experts_per_group"], float(attrs["norm_min"]), float(attrs["factor"])],
        [ids, weights], groups=1, rows=x.rows,
        constants=(
            GATINGS.index(attrs["gating"]), logits.width, attrs["k"], attrs["norm"],
            bias is not None, given is not None,
        ),
    )  # fmt: skip


def _gated(lowering: Lowering, node: Node, gate: Place, up: Place, h: Place, width: int) -> None:
    act, rows = node.attrs["act"], node.inputs[0].rows
    shared: dict[str, Any] = {"ldb": up.stride, "fan": node.attrs["k"]}
    if act in FORMS:
        shared |= {"act": FORMS.index(act), "bounds": node.attrs["bounds"]}
        lowering.binary(BOUNDED_GLU, gate, up, h, width, rows, **shared)
    else:
        lowering.binary(GLU, gate, up, h, width, rows, act=ACTIVATIONS.index(act), **shared)


def _activated(lowering: Lowering, node: Node, x: Place, h: Place, width: int) -> None:
    act, rows = ACTIVATIONS.index(node.attrs["act"]), node.inputs[0].rows
    lowering.apply(4, x, h, width, rows, act=act, fan=node.attrs["k"])
