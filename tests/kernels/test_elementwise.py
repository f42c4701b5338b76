"""Elementwise kernels against their twins."""

import subprocess
import sys

import numpy as np
import pytest

from jitllm.kernels import host, reference

WIDTHS = [1, 2, 15, 16, 17, 63, 100, 1000]


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_exact_operations_equal_twins(width: int) -> None:
    a, b = _normal(1, 9, width), _normal(2, 9, width)
    assert np.array_equal(host.add(a, b), reference.add(a, b))
    assert np.array_equal(host.mul(a, b), reference.mul(a, b))
    assert np.array_equal(host.scale(a, 0.3), reference.scale(a, 0.3))
    rows = np.array([8, 0, 3, 3])
    assert np.array_equal(host.select_rows(a, rows), reference.select_rows(a, rows))


@pytest.mark.parametrize("width", WIDTHS)
def test_soft_cap_equals_twin(width: int) -> None:
    x = 40 * _normal(3, 5, width)
    np.testing.assert_allclose(host.soft_cap(x, 30.0), reference.soft_cap(x, 30.0), rtol=1e-6)


def test_two_threads_take_all_rows() -> None:
    a, b = _normal(4, 100, 3000), _normal(5, 100, 3000)
    with host.threads(2):
        assert np.array_equal(host.add(a, b), a + b)
        assert np.array_equal(host.select_rows(a, np.arange(100)[::-1]), a[::-1])


def test_shapes_and_types_are_checked() -> None:
    a = _normal(1, 2, 3)
    with pytest.raises(ValueError, match=r"b must have shape \(2, 3\)"):
        host.add(a, _normal(1, 2, 4))
    with pytest.raises(TypeError, match="x must be a float32 array of 2 dimensions, got float64"):
        host.scale(a.astype(np.float64), 2.0)
    with pytest.raises(ValueError, match=r"row numbers must lie in \[0, 2\)"):
        host.select_rows(a, np.array([2]))


def test_no_rows() -> None:
    assert host.add(_normal(1, 0, 5), _normal(1, 0, 5)).shape == (0, 5)


def test_importing_the_host_functions_imports_no_compiler() -> None:
    code = "import sys, jitllm.kernels.host; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0
