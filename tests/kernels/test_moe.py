"""Routing against its twin."""

import numpy as np
import pytest

from jitllm.kernels import host, reference


def _logits(n_rows: int, n_experts: int) -> np.ndarray:
    rng = np.random.default_rng(n_experts)
    return (3 * rng.standard_normal((n_rows, n_experts))).astype(np.float32)


@pytest.mark.parametrize("gating", ["softmax", "sigmoid", "softmax_topk"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("n_experts", "k"), [(1, 1), (4, 2), (17, 17), (60, 4), (128, 8)])
def test_top_k_experts_equals_twin(gating: str, norm: bool, n_experts: int, k: int) -> None:
    logits = _logits(20, n_experts)
    bias = np.linspace(-0.3, 0.3, n_experts, dtype=np.float32)
    for b in (None, bias):
        ids, weights = host.top_k_experts(logits, k, gating=gating, norm=norm, scale=2.5, bias=b)
        want = reference.top_k_experts(logits, k, gating=gating, norm=norm, scale=2.5, bias=b)
        assert np.array_equal(ids, want[0])
        np.testing.assert_allclose(weights, want[1], rtol=3e-6)


def test_equal_logits_choose_the_lower_id() -> None:
    ids, _ = host.top_k_experts(np.zeros((2, 9), np.float32), 4, gating="softmax", norm=True)
    assert np.array_equal(ids, [[0, 1, 2, 3]] * 2)


def test_least_divisor() -> None:
    logits = np.full((1, 4), -80, np.float32)
    options = dict(gating="sigmoid", norm=True, norm_min=0.5)
    _, weights = host.top_k_experts(logits, 2, **options)  # type: ignore[arg-type]
    _, expected = reference.top_k_experts(logits, 2, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_masked_experts_are_chosen_last() -> None:
    logits = np.array([[-np.inf, 1, 2]], np.float32)
    ids, weights = host.top_k_experts(logits, 3, gating="softmax", norm=False)
    assert np.array_equal(ids, [[2, 1, 0]]) and weights[0, 2] == 0


def test_nan_logits_still_name_distinct_experts() -> None:
    logits = _logits(1, 8)
    logits[0, 3] = np.nan
    for gating in ("softmax", "sigmoid", "softmax_topk"):
        ids, _ = host.top_k_experts(logits, 8, gating=gating, norm=False)
        assert sorted(ids[0]) == list(range(8))


def test_bits_do_not_depend_on_batch_or_threads() -> None:
    logits = _logits(500, 60)
    whole = host.top_k_experts(logits, 4, gating="softmax", norm=True)
    with host.threads(2):
        two = host.top_k_experts(logits, 4, gating="softmax", norm=True)
    one = host.top_k_experts(logits[7:8], 4, gating="softmax", norm=True)
    for a, b, c in zip(whole, two, one, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a[7:8], c)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="gating must be one of"):
        host.top_k_experts(_logits(1, 4), 2, gating="hard", norm=True)
    with pytest.raises(ValueError, match="need 1 <= k <= experts <= 4096, got k 5, 4 experts"):
        host.top_k_experts(_logits(1, 4), 5, gating="softmax", norm=True)
