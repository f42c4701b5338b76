"""`token_table`: numbers that belong to tokens, from a small table.

=========== ======= =====================================================
op          weights attrs; what y is
=========== ======= =====================================================
token_table ()      table (float32 [V, n]); y[t] = table[tokens[t]]
=========== ======= =====================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import Floats, GraphBuilder


def token_table(g: GraphBuilder, table: Floats, *, name: str) -> Value:
    """The rows of `table`, float32 [V, n], of the run's tokens: [T, n].

    V must be that of the embedding table.
    """
    return g.node("token_table", name, (), "T", table.shape[1], (), {"table": table})
