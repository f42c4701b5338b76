"""Routing on the simulated GPU against its twin."""

from typing import Any

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import count, few, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jitllm.backends.base import Floats
from jitllm.backends.gpu_ops.experts import GATINGS
from jitllm.kernels import reference
from jitllm.kernels.reference.routing import NORM_MIN


def _route(
    logits: Floats, k: int, gating: str, *, norm: bool = True, bias: Floats | None = None,
    n_group: int = 1, topk_group: int = 1, experts_per_group: int = 1, scale: float = 1.0,
    chosen: Floats | None = None,
) -> tuple[Any, Floats]:  # fmt: skip
    """Route with a row more in the grid than there are."""
    (n, n_experts), source = logits.shape, rows_of(logits)
    given_rows = None if chosen is None else rows_of(chosen)
    ids, weights = np.full((n + 1, k), -1, np.int32), np.full((n + 1, k), np.nan, np.float32)
    arguments = [
        count(n), source, bias, given_rows, ids, weights, source.shape[1],
        0 if given_rows is None else given_rows.shape[1], n_group, topk_group, experts_per_group,
        NORM_MIN, scale,
    ]  # fmt: skip
    constants = GATINGS.index(gating), n_experts, k, norm, bias is not None, chosen is not None
    launch("route", constants, arguments, (1, n + 1))
    assert (ids[n] == -1).all() and np.isnan(weights[n]).all()
    return ids[:n], weights[:n]


def _logits(n: int, n_experts: int, seed: int = 0) -> Floats:
    return 3 * np.random.default_rng(seed).standard_normal((n, n_experts), np.float32)


def _check(logits: Floats, k: int, gating: str, **options: Any) -> Any:
    ids, weights = _route(logits, k, gating, **options)
    options.setdefault("norm", True)
    want = reference.top_k_experts(logits, k, gating=gating, **options)
    np.testing.assert_array_equal(ids, want[0])
    np.testing.assert_allclose(weights, want[1], rtol=4e-6)
    return ids


@pytest.mark.parametrize("gating", few(GATINGS, ("softmax", "softmax_topk")))
@pytest.mark.parametrize("sizes", few(((17, 17), (60, 4)), ((60, 4),)))
def test_choice_and_weights(gating: str, sizes: tuple[int, int]) -> None:
    n_experts, k = sizes
    bias = np.linspace(-0.3, 0.3, n_experts, dtype=np.float32)
    is_biased, norm = k == 4, n_experts == 60
    logits = _logits(5, n_experts)
    _check(logits, k, gating, norm=norm, bias=bias if is_biased else None, scale=2.5)


@pytest.mark.slow
def test_one_expert_and_many() -> None:
    _check(_logits(2, 1), 1, "softmax")
    _check(_logits(1, 1000), 40, "sigmoid")


@pytest.mark.parametrize(("n_group", "topk_group"), [(6, 3), (3, 1), (12, 5)])
def test_choice_among_the_best_groups(n_group: int, topk_group: int) -> None:
    logits = _logits(8, 12)
    rules = {"norm": True, "n_group": n_group, "topk_group": topk_group}
    ids = _check(logits, 2, "sigmoid", **rules)
    assert all(len(set(row)) <= topk_group for row in ids // (12 // n_group))


def test_groups_that_share_an_expert() -> None:
    _check(_logits(6, 12), 5, "softmax", norm=False, experts_per_group=3)


def test_given_experts_are_only_weighted() -> None:
    rng = np.random.default_rng(0)
    chosen = rng.permuted(np.tile(np.arange(12.0), (9, 1)), axis=1)[:, :4].astype(np.float32)
    ids = _check(_logits(9, 12), 4, "sigmoid", chosen=chosen)
    np.testing.assert_array_equal(ids, chosen)


def test_numbers_of_no_expert_reach_no_foreign_memory() -> None:
    wild = np.array([[np.nan, -1, 12, 3e38]], np.float32)
    ids, _ = _route(_logits(1, 12), 4, "sigmoid", chosen=wild)
    np.testing.assert_array_equal(ids, [[0, 0, 0, 0]])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 2.0, np.nan, -np.inf, np.inf]), min_size=17,
                max_size=17))  # fmt: skip
@example([-np.inf, np.nan] * 8 + [-np.inf])
def test_of_equals_the_lower_id_comes_first(values: list[float]) -> None:
    logits = np.array([values], np.float32)
    ids, _ = _route(logits, 4, "sigmoid_topk")
    assert ((ids >= 0) & (ids < 17)).all()
    if np.isfinite(logits).all():
        np.testing.assert_array_equal(ids[0], np.argsort(-logits[0], kind="stable")[:4])
