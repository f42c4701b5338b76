"""Twin of the routing kernel; callers find it in `jitllm.kernels.reference`."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from jitllm.kernels.reference.weights import Doubles, Floats, f32, f64

NORM_MIN = 2.0**-14  # least sum that expert weights are divided by: the smallest normal float16


def _sigmoid(x: Doubles) -> Doubles:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(x: Doubles) -> Doubles:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _same(x: Doubles) -> Doubles:
    return x


# What is done to all logits before the choice, and to the chosen ones after it.
GATINGS: dict[str, tuple[Callable[[Doubles], Doubles], Callable[[Doubles], Doubles]]] = {
    "softmax": (_softmax, _same),
    "sigmoid": (_sigmoid, _same),
    "sqrt_softplus": (lambda x: np.sqrt(np.logaddexp(0.0, x)), _same),
    "softmax_topk": (_same, _softmax),
    "sigmoid_topk": (_same, _sigmoid),
}


def top_k_experts(
    logits: Floats,
    k: int,
    *,
    gating: str,
    norm: bool,
    scale: float = 1.0,
    bias: Floats | None = None,
    norm_min: float = NORM_MIN,
    n_group: int = 1,
    topk_group: int = 1,
    experts_per_group: int = 1,
    chosen: Floats | None = None,
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Choose k experts for every token and weigh them; `ValueError` for an unknown gating.

    Parameters
    ----------
    logits : float32 [T, E]
        The router's output.
    k : int
    gating : str
        "softmax", "sigmoid" and "sqrt_softplus" (sqrt(ln(1 + e^x))) turn logits into scores before
        the choice; "softmax_topk" and "sigmoid_topk" choose by the logits and apply softmax or
        sigmoid to the k chosen.
    norm : bool
        Divide the weights by their sum, or by `norm_min` if that is larger.
    scale : float
        Factor of the final weights.
    bias : float32 [E], optional
        Added to the scores for the choice only (DeepSeek-AI, "DeepSeek-V3", 2024).
    norm_min : float
    n_group, topk_group : int
        Choose only among the `topk_group` of `n_group` groups of consecutive experts with the
        largest sums of their two best scores plus bias (ibid.).
    experts_per_group : int
        Divide the numbers by this, which gives ids and the places of their scores.
    chosen : float32 [T, k], optional
        Numbers of the experts; scores are only their weights.

    Returns
    -------
    ids : int32 [T, k]
        Best first, of equals the lower id first.
    weights : float32 [T, k]

    Notes
    -----
    Shazeer et al., "Outrageously Large Neural Networks", 2017; Jiang et al., "Mixtral", 2024.
    """
    if gating not in GATINGS:
        raise ValueError(f"gating must be one of {sorted(GATINGS)}, got {gating!r}")
    before, after = GATINGS[gating]
    scores = before(f64(logits))
    if chosen is None:
        ranks = _best_groups(scores if bias is None else scores + bias, n_group, topk_group)
        ids = np.argsort(-ranks, axis=-1, kind="stable")[:, :k]
    else:
        ids = chosen.astype(np.int64)
    ids = ids // experts_per_group
    weights = after(np.take_along_axis(scores, ids, axis=-1))
    if norm:
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), norm_min)
    return ids.astype(np.int32), f32(weights * scale)


def _best_groups(scores: Doubles, n_group: int, topk_group: int) -> Doubles:
    """Return scores [T, E] with -inf outside of the best groups."""
    if n_group == 1:
        return scores
    groups = scores.reshape(len(scores), n_group, -1)
    sums = np.sort(groups, axis=-1)[..., -2:].sum(axis=-1)
    kept = np.argsort(-sums, axis=-1, kind="stable")[:, :topk_group]
    inside = np.zeros(sums.shape, bool)
    np.put_along_axis(inside, kept, True, axis=-1)
    return np.where(inside[..., None], groups, -np.inf).reshape(scores.shape)
