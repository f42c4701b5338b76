"""`experts`: a mixture of feed-forward networks, of which each token uses a few."""

from dataclasses import dataclass

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import ACTIVATIONS, Floats, GraphBuilder
from jitllm.llm.graph.words import bounded_glu

GATINGS = ("softmax", "sigmoid", "sqrt_softplus", "softmax_topk", "sigmoid_topk")
NORM_MIN = 6.103515625e-5  # the smallest normal float16
Three = tuple[Floats | None, Floats | None, Floats | None]


@dataclass(frozen=True)
class Routing:
    """How the experts of a token are chosen by the router's logits, and weighted.

    Attributes
    ----------
    k : int
        Experts of a token.
    gating : str
        Makes scores of logits: "softmax", "sigmoid" or "sqrt_softplus" (sqrt(ln(1 + e^x))) before
        the choice; "softmax_topk" and "sigmoid_topk" choose by the logits and score the chosen.
    norm : bool
        Divide the weights by their sum, or by `norm_min` if that is larger.
    norm_min, factor : float
        `factor` multiplies the weights in the end.
    bias : str
        Tensor (E,) added to the scores for the choice only, or "".
    n_group, topk_group : int
        Choose only among the `topk_group` of `n_group` groups of consecutive experts with the
        largest sums of their two best scores plus bias.
    weigh_input : bool
        Multiply the experts' input, not their output, by the weights.
    experts_per_group : int
        Outputs of the router that stand for one expert of the stacks: number c is chosen, expert
        c // experts_per_group used, with the score of that output. It may be used more than once.
    """

    k: int
    gating: str = "softmax"
    norm: bool = True
    norm_min: float = NORM_MIN
    factor: float = 1.0
    bias: str = ""
    n_group: int = 1
    topk_group: int = 1
    weigh_input: bool = False
    experts_per_group: int = 1

    def check(self, name: str, n_experts: int) -> None:
        """Raise `ValueError` if there is no such routing of `n_experts` experts."""
        if self.gating not in GATINGS:
            raise ValueError(f"{name}: gating must be one of {GATINGS}, got {self.gating!r}")
        if not 1 <= self.k <= n_experts:
            raise ValueError(f"{name}: {self.k} of {n_experts} experts")
        if self.experts_per_group < 1 or n_experts % self.experts_per_group:
            raise ValueError(f"{name}: {n_experts} experts in groups of {self.experts_per_group}")
        size = n_experts // max(self.n_group, 1)
        if size * self.n_group != n_experts or not (
            1 <= self.topk_group <= self.n_group and self.k <= self.topk_group * size
        ):
            raise ValueError(
                f"{name}: {self.k} experts of {self.topk_group} of {self.n_group} groups of "
                f"{n_experts} experts"
            )


def experts(
    g: GraphBuilder,
    x: Value,
    logits: Value,
    routing: Routing,
    *,
    up: str,
    down: str,
    name: str,
    gate: str = "",
    fused: bool = False,
    act: str = "silu",
    bounds: tuple[float, float] = (0.0, 0.0),
    scales: Three | None = None,
    biases: Three | None = None,
    chosen: Value | None = None,
) -> Value:
    """The k experts chosen by router `logits` [rows, E], summed by their weights: [rows, n].

    x is [rows, n]. The stacks `up` (E, F, n), `down` (E, n, F) and `gate` (E, F, n) or "" hold the
    matrices: expert e gives down_e(act(gate_e x) * up_e x), or down_e(act(up_e x)) without gate.
    If `fused`, `up` is (E, 2 F, n): the rows of gate, then those of up.

    `act` is an activation of `GraphBuilder.activation`, or with gates a form of `bounded_glu`, to
    which `bounds` belong. `scales` and `biases` are float32 arrays or None for gate, up and down:
    scales [E] multiply the products with an expert's matrices, biases [E, width] are added
    afterwards; where `fused`, those of up belong to the fused stack. With `chosen` [rows, k],
    numbers of experts, they are not chosen here, only weighted.

    `GGUFError` is raised if a tensor is missing or has another shape, `ValueError` if the routing,
    the activation or an array cannot be.

    Sources: Shazeer et al., "Outrageously Large Neural Networks", 2017; Jiang et al., "Mixtral of
    Experts", 2024; groups and selection bias: DeepSeek-AI, "DeepSeek-V3", 2024.
    """
    routing.check(name, logits.width)
    n_experts = logits.width // routing.experts_per_group
    _check_act(name, act, bounds, gated=fused or bool(gate))
    width = g.weight(up, (n_experts, -1, x.width))[1]
    n_ff = width // 2 if fused else width
    if gate:
        g.weight(gate, (n_experts, n_ff, x.width))
    g.weight(down, (n_experts, x.width, n_ff))
    if routing.bias:
        g.weight(routing.bias, (logits.width,))
    scales, biases = scales or (None, None, None), biases or (None, None, None)
    _check_arrays(name, "scales", scales, [(n_experts,)] * 3)
    _check_arrays(name, "biases", biases, [(n_experts, w) for w in (n_ff, width, x.width)])
    if chosen is not None and (chosen.rows, chosen.width) != (x.rows, routing.k):
        raise ValueError(f"{name}: expected numbers of {routing.k} experts a row, got {chosen}")
    attrs = {key: value for key, value in vars(routing).items() if key != "bias"}
    attrs |= {"fused": fused, "act": act, "bounds": bounds, "scales": scales, "biases": biases}
    inputs = (x, logits) if chosen is None else (x, logits, chosen)
    weights = (gate, up, down, routing.bias)
    return g.node("experts", name, inputs, x.rows, x.width, weights, attrs)


def _check_act(name: str, act: str, bounds: tuple[float, float], *, gated: bool) -> None:
    if gated and act in bounded_glu.FORMS:
        bounded_glu.check(name, act, bounds)
    elif act not in ACTIVATIONS:
        raise ValueError(f"{name}: act must be one of {ACTIVATIONS}, got {act!r}")


def _check_arrays(name: str, what: str, arrays: Three, shapes: list[tuple[int, ...]]) -> None:
    for array, shape in zip(arrays, shapes, strict=True):
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: expected {what} of shape {shape}, got {array.shape}")
