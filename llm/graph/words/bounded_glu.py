"""`bounded_glu`: gated units whose halves are held within bounds."""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder

FORMS = ("swiglu_clamp", "swiglu_limit", "swiglu_oai", "situ")


def bounded_glu(
    g: GraphBuilder, gate: Value, up: Value, *, act: str, bounds: tuple[float, float], name: str
) -> Value:
    """A gated unit of gate and up: [rows, width].

    With (a, b) = bounds, `act` is "swiglu_clamp": silu(min(gate, a)) * clip(up, -a, a);
    "swiglu_limit": min(silu(gate), a) * clip(up, -a, a); "swiglu_oai": x sigmoid(b x) *
    (clip(up, -a, a) + 1) with x = min(gate, a); or "situ": a tanh(gate / a) sigmoid(gate) *
    b tanh(up / b), * up where b is 0.

    Raises
    ------
    ValueError
        If `act` is none of these, a is not positive, or gate and up differ in shape.
    """
    check(name, act, bounds)
    if (gate.rows, gate.width) != (up.rows, up.width):
        raise ValueError(f"{name}: expected two values of one shape, got {gate} and {up}")
    attrs = {"act": act, "bounds": (float(bounds[0]), float(bounds[1]))}
    return g.node("bounded_glu", name, (gate, up), gate.rows, gate.width, (), attrs)


def check(name: str, act: str, bounds: tuple[float, float]) -> None:
    """Raise `ValueError` if there is no such form or it cannot have these bounds."""
    if act not in FORMS:
        raise ValueError(f"{name}: act must be one of {FORMS}, got {act!r}")
    if not bounds[0] > 0 or not bounds[1] >= 0:
        raise ValueError(f"{name}: expected bounds a > 0 and b >= 0, got {bounds}")
