"""`embed_positions`: learned embeddings of positions.

=============== ================ ====================================================
op              weights          what y is
=============== ================ ====================================================
embed_positions (table (P, n),)  y[t] = table[positions[t]]
=============== ================ ====================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.errors import ContextLengthExceeded
from jitllm.llm.graph.builder import GraphBuilder


def embed_positions(g: GraphBuilder, weight: str, *, width: int, name: str) -> Value:
    """Rows of a table (P, width) for the positions of the run: [T, width].

    Raises
    ------
    ContextLengthExceeded
        If the context is longer than the table.
    """
    n_positions = g.weight(weight, (-1, width))[0]
    if g.n_ctx > n_positions:
        raise ContextLengthExceeded(
            f"expected a context of at most {n_positions} tokens, for which the model has learned "
            f"positions; got {g.n_ctx}; load the model with a smaller n_ctx"
        )
    return g.node("embed_positions", name, (), "T", width, (weight,))
