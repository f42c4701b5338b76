"""Log-probabilities of tokens, for reports."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from jitllm.llm.sampling.errors import SamplingError
from jitllm.llm.sampling.order import top_positions

Ids: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float32]


def log_softmax_rows(logits: Floats) -> Floats:
    """Return log(softmax) of each row; sums run in float64.

    Parameters
    ----------
    logits
        float32 `[..., V]`, at least one finite value a row.

    Returns
    -------
    float32 `[..., V]`
    """
    return (logits - _log_sum_exp(logits)[..., None]).astype(np.float32)


def top_logprobs(logits: Floats, ids: Ids, n: int) -> tuple[Floats, Ids, Floats]:
    """Return the log-probability of given tokens and the n most probable ones.

    Costs no `[T, V]` array besides the input.

    Parameters
    ----------
    logits
        float32 `[T, V]`.
    ids
        Integers `[T]`, one token per row.
    n
        Number of alternatives, 0 to V.

    Returns
    -------
    chosen, top_ids, top
        float32 `[T]`, int32 `[T, n]` and float32 `[T, n]`, the latter two in descending order.
    """
    n_rows, n_vocab = logits.shape
    ids = np.asarray(ids)
    if ids.shape != (n_rows,) or (n_rows and not 0 <= ids.min() <= ids.max() < n_vocab):
        raise SamplingError(
            f"expected {n_rows} token ids in 0..{n_vocab - 1}, one per row of logits, got {ids}"
        )
    if not 0 <= n <= n_vocab:
        raise SamplingError(f"the number of top logprobs must be in 0..{n_vocab}, got {n}")
    chosen = np.empty(n_rows, dtype=np.float32)
    top_ids = np.empty((n_rows, n), dtype=np.int32)
    top = np.empty((n_rows, n), dtype=np.float32)
    for row in range(n_rows):
        scale = _log_sum_exp(logits[row])
        chosen[row] = logits[row, ids[row]] - scale
        if n:
            top_ids[row] = top_positions(logits[row], n)
            top[row] = logits[row, top_ids[row]] - scale
    return chosen, top_ids, top


def _log_sum_exp(logits: Floats) -> NDArray[np.float64]:
    largest = logits.max(axis=-1)
    if not np.isfinite(largest).all():
        raise SamplingError(
            f"a row of logits has {largest[~np.isfinite(largest)].ravel()[0]} as its largest "
            f"value, expected a finite number"
        )
    shifted = np.exp(logits - largest[..., None])
    total: NDArray[np.float64] = largest + np.log(shifted.sum(axis=-1, dtype=np.float64))
    return total
