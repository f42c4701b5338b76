"""Operations with states on Vulkan and Metal: as by their twins, however rows are cut."""

import numpy as np
import pytest
from driver import opens
from recurrent_cases import KINDS, TOKENS, Case


@pytest.mark.parametrize("device", ["vulkan", "metal"])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_twins(kind: str, device: str) -> None:
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    case = Case(kind)
    want = case.run("reference", [TOKENS])
    states = case.states
    got = case.run(device, [1, 13, 10])
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=3e-4)
    for mine, twins in zip(case.states, states, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(case.run(device, [TOKENS]), got)
