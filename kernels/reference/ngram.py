"""Twins of the kernels of n-gram embeddings."""

import numpy as np
import numpy.typing as npt

from jitllm.kernels.reference.weights import Floats, f32, f64

Ids = npt.NDArray[np.int64]


def ngram_rows(
    tokens: Ids,
    before: Ids,
    *,
    multipliers: npt.NDArray[np.uint64],
    sizes: Ids,
    offsets: Ids,
    end: int,
) -> Ids:
    """Return the rows of a table that the last tokens hash to.

    Parameters
    ----------
    tokens : int [T]
        Consecutive tokens of one sequence.
    before : int [N - 1]
        Those before the first of them, the last one first; -1 where there are none.
    multipliers : uint64 [N]
    sizes, offsets : int [H]
        Row = hash % size + offset; the first H / (N - 1) hashes are of 2 tokens, and so on.
    end : int
        The token that cuts what is before it off.

    Returns
    -------
    int [T, H]
    """
    longest, heads = len(multipliers), len(sizes)
    history = np.concatenate([before[::-1], tokens])
    rows = np.empty((len(tokens), heads), np.int64)
    for t in range(len(tokens)):
        last = history[t : t + longest][::-1].copy()
        cuts = np.flatnonzero((last[1:] < 0) | (last[1:] == end))
        if len(cuts):
            last[1 + cuts[0] :] = end
        products = last.astype(np.uint64) * multipliers  # modulo 2^64
        mixed = np.bitwise_xor.accumulate(products)[1:]
        rows[t] = (np.repeat(mixed, heads // (longest - 1)) % sizes.astype(np.uint64)).astype(
            np.int64
        ) + offsets
    return rows


def signed_root_dot(a: Floats, b: Floats, n_groups: int, scale: float) -> Floats:
    """Return sign(d) sqrt(max(|d|, 1e-6)) with d = scale * (a . b) of each group of columns.

    a and b are float32 [T, width]; the result is float32 [T, n_groups].
    """
    products = (f64(a) * f64(b)).reshape(len(a), n_groups, -1).sum(axis=2) * scale
    return f32(np.sign(products) * np.sqrt(np.maximum(np.abs(products), 1e-6)))
