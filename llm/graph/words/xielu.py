"""`xielu`: an activation with numbers of its own in every layer.

===== ======= ======================================================================
op    weights attrs; what y is
===== ======= ======================================================================
xielu ()      alpha_p, alpha_n, beta, eps; y = alpha_p x^2 + beta x where x > 0, else
              alpha_n (e^min(x, eps) - 1 - x) + beta x
===== ======= ======================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import GraphBuilder


def xielu(
    g: GraphBuilder,
    x: Value,
    *,
    alpha_p: float,
    alpha_n: float,
    beta: float,
    eps: float,
    name: str,
) -> Value:
    """The integral of a trained ELU: [rows, width]. `eps` is not positive.

    Source: Huang and Schlag, "Deriving Activation Functions Using Integration", 2024.
    """
    if eps > 0:
        raise ValueError(f"{name}: expected an eps of at most 0, got {eps}")
    attrs = {"alpha_p": alpha_p, "alpha_n": alpha_n, "beta": beta, "eps": eps}
    return g.node("xielu", name, (x,), x.rows, x.width, (), attrs)
