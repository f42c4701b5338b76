"""`keep`: keys and values of an encoder's text, for the decoder to see.

==== ======= ==============================================================================
op   weights attrs; what y is
==== ======= ==============================================================================
keep ()      cache, layer, n_kv_heads; writes k, v to the cells of a cache with `cross`; y
             has no columns
==== ======= ==============================================================================
"""

from jitllm.backends.ir import Value
from jitllm.llm.graph.builder import CROSS, GraphBuilder


def keep(g: GraphBuilder, k: Value, v: Value, *, n_kv_heads: int, name: str) -> None:
    """Keep k [T, G*dk] and v [T, G*dv] for the attention whose `keys_of` is `name`."""
    sizes = (n_kv_heads, k.width // n_kv_heads, v.width // n_kv_heads)
    cache, layer = g.cache_place(CROSS, sizes)
    attrs = {"cache": cache, "layer": layer, "n_kv_heads": n_kv_heads, "window": CROSS}
    g.node("keep", name, (k, v), k.rows, 0, (), attrs)
