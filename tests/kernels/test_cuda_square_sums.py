"""Sums of squares of experts' rows, in the simulator."""

import numpy as np
import pytest
from gpu_launch import launch

from jitllm.kernels.reference.squares import square_sums

N_EXPERTS = 3


@pytest.mark.parametrize("is_weighed", [False, True])
@pytest.mark.parametrize(("n_slots", "fan", "width"), [(6, 2, 70), (5, 1, 64), (1, 1, 3)])
def test_sums_are_those_of_the_twin(is_weighed: bool, n_slots: int, fan: int, width: int) -> None:
    rng = np.random.default_rng(width)
    ids = rng.integers(0, N_EXPERTS - 1, n_slots).astype(np.int32)  # the last one gets none
    x = rng.standard_normal((n_slots // fan, width + 2)).astype(np.float32)
    weights = rng.standard_normal(n_slots).astype(np.float32)
    sums = np.full((N_EXPERTS, width), np.nan, np.float32)
    counts, spans = np.full(N_EXPERTS, -1, np.int32), -(-width // 64)
    launch(
        "square_sums", (is_weighed,),
        [
            np.array([n_slots], np.uint32), ids, x, weights, sums, counts,
            width + 2, width, fan, spans,
        ],
        N_EXPERTS * spans,
    )  # fmt: skip
    rows = np.repeat(x[:, :width], fan, 0) * (weights[:, None] if is_weighed else 1)
    expected, n = np.zeros_like(sums), np.zeros(N_EXPERTS, np.int32)
    square_sums(rows, ids, expected, n)
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    assert np.array_equal(counts, n)
