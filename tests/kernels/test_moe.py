"""Routing against its twin."""

from typing import Any

import numpy as np
import pytest

from jitllm.kernels import host, reference


def _logits(n_rows: int, n_experts: int) -> np.ndarray:
    rng = np.random.default_rng(n_experts)
    return (3 * rng.standard_normal((n_rows, n_experts))).astype(np.float32)


GATINGS = ["softmax", "sigmoid", "sqrt_softplus", "softmax_topk", "sigmoid_topk"]


@pytest.mark.parametrize("gating", GATINGS)
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


@pytest.mark.parametrize(
    ("n_experts", "n_group", "topk_group"), [(64, 8, 2), (12, 6, 3), (6, 3, 1)]
)
def test_choice_among_the_best_groups(n_experts: int, n_group: int, topk_group: int) -> None:
    logits, k = _logits(30, n_experts), min(5, topk_group * n_experts // n_group)
    bias = np.linspace(-0.3, 0.3, n_experts, dtype=np.float32)
    for b in (None, bias):
        rules: dict[str, Any] = {"gating": "sigmoid", "norm": True, "bias": b}
        groups: dict[str, Any] = {"n_group": n_group, "topk_group": topk_group}
        ids, weights = host.top_k_experts(logits, k, **rules, **groups)
        want = reference.top_k_experts(logits, k, **rules, **groups)
        assert np.array_equal(ids, want[0])
        np.testing.assert_allclose(weights, want[1], rtol=3e-6)
        assert all(len(set(row)) <= topk_group for row in ids // (n_experts // n_group))
        anywhere, _ = host.top_k_experts(logits, k, **rules)
        assert not np.array_equal(ids, anywhere)


def test_groups_are_ranked_by_their_two_best() -> None:
    logits = np.log(np.array([[0.5, 0.01, 0.01, 0.3, 0.3, 0.01]], np.float32))
    options: dict[str, Any] = {"gating": "softmax", "norm": False, "n_group": 2, "topk_group": 1}
    for kernels in (host, reference):
        ids, _ = kernels.top_k_experts(logits, 2, **options)
        assert ids.tolist() == [[3, 4]]


@pytest.mark.parametrize("gating", GATINGS)
def test_given_experts_are_only_weighted(gating: str) -> None:
    logits = _logits(9, 12)
    chosen = np.random.default_rng(0).permuted(np.tile(np.arange(12), (9, 1)), axis=1)[:, :4]
    options: dict[str, Any] = {"gating": gating, "norm": True, "chosen": chosen.astype(np.float32)}
    ids, weights = host.top_k_experts(logits, 4, **options)
    _, expected = reference.top_k_experts(logits, 4, **options)
    assert np.array_equal(ids, chosen)
    np.testing.assert_allclose(weights, expected, rtol=3e-6)


def test_groups_that_share_an_expert() -> None:
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    options: dict[str, Any] = {"gating": "softmax", "norm": False, "experts_per_group": 2}
    for kernels in (host, reference):
        ids, weights = kernels.top_k_experts(logits, 3, **options)
        assert ids.tolist() == [[0, 1, 1]]
        np.testing.assert_allclose(weights, [[0.1, 0.4, 0.4]], rtol=1e-6)


def test_numbers_of_no_expert_reach_no_foreign_memory() -> None:
    wild = np.array([[np.nan, -1, 4, 3e38]], np.float32)
    ids, _ = host.top_k_experts(_logits(1, 4), 4, gating="softmax", norm=True, chosen=wild)
    assert np.array_equal(ids, [[0, 0, 0, 0]])


def test_sqrt_softplus_far_from_zero() -> None:
    logits = np.array([[-60, -20, -1, 0, 1, 30, 2000, -2000]], np.float32)
    ids, weights = host.top_k_experts(logits, 8, gating="sqrt_softplus", norm=False)
    expected = np.sqrt(np.logaddexp(0, logits.astype(np.float64)))[0, ids[0]]
    np.testing.assert_allclose(weights[0], expected, rtol=1e-6)


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
    for gating in GATINGS:
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
