"""Words of embeddings of n-grams, found by a hash of the last tokens.

=============== ================ ==================================================================
op              weights          attrs; what y is
=============== ================ ==================================================================
ngram_embed     (table (R, D),)  state, multipliers (uint64 [N]), sizes, offsets (int64 [H]), end;
                                 y[t, h] = table[(m % sizes[h]) + offsets[h]], m being the
                                 exclusive or of multipliers[j] * token[t - j] (modulo 2^64) for
                                 j < n, where n is 2 for the first H / (N - 1) of h, and so on to N.
                                 From the last token `end` before t back, or before the first of
                                 the sequence, all tokens are `end`. The state is 1 + token of the
                                 last N - 1 tokens, or 0: float32 [N - 1], the last one first
signed_root_dot ()               n_groups, scale; y[t, g] = sign(d) sqrt(max(|d|, 1e-6)), d being
                                 scale * (a . b) over group g of the columns
=============== ================ ==================================================================
"""

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import Value
from jitllm.llm.errors import GGUFError
from jitllm.llm.graph.builder import GraphBuilder


def ngram_embed(
    g: GraphBuilder,
    table: str,
    *,
    multipliers: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    end: int,
    width: int,
    name: str,
) -> Value:
    """Rows of a table (R, width) for the last 2, 3, ... tokens: [T, H * width].

    The module's table says which. Source: Svenstrup et al., "Hash Embeddings", 2017.
    """
    n_rows, heads = g.weight(table, (-1, width))[0], len(sizes)
    if len(multipliers) < 2 or heads % (len(multipliers) - 1) or len(offsets) != heads:
        raise ValueError(f"{name}: {heads} hashes of {len(multipliers)}-grams")
    if sizes.min() < 1 or offsets.min() < 0 or (offsets + sizes).max() > n_rows:
        raise GGUFError(
            f"tensor {table!r}: expected rows for hashes {sizes} from {offsets}, got {n_rows}"
        )
    attrs = {
        "state": g.state(len(multipliers) - 1),
        "multipliers": multipliers,
        "sizes": sizes,
        "offsets": offsets,
        "end": end,
    }
    return g.node("ngram_embed", name, (), "T", heads * width, (table,), attrs)


def signed_root_dot(
    g: GraphBuilder, a: Value, b: Value, *, n_groups: int, scale: float, name: str
) -> Value:
    """The root, with its sign, of the product of each group of columns: [rows, n_groups]."""
    if (a.rows, a.width) != (b.rows, b.width) or n_groups < 1 or a.width % n_groups:
        raise ValueError(f"{name}: {n_groups} groups of {a} and {b}")
    attrs = {"n_groups": n_groups, "scale": float(scale)}
    return g.node("signed_root_dot", name, (a, b), a.rows, n_groups, (), attrs)
