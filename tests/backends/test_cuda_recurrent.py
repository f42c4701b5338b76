"""Operations with states on the simulated CUDA device: as by their twins, however rows are cut."""

import numpy as np
import pytest
from gpu_rows import few
from recurrent_cases import KINDS, TOKENS, Case


@pytest.fixture(autouse=True)
def _simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")


@pytest.mark.parametrize("kind", few(KINDS, ["conv", "net"]))
def test_equal_to_the_twins(kind: str) -> None:
    case = Case(kind)
    want = case.run("reference", [TOKENS])
    states = case.states
    got = case.run("cuda", [1, 13, 10])
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=3e-4)
    for mine, twins in zip(case.states, states, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-3, atol=1e-4)
