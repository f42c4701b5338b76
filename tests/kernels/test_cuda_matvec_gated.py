"""Gated units of one row on the simulated GPU, by one dispatch: those of three."""

import numpy as np
import pytest
from blocks import random_blocks
from gpu_launch import launch
from gpu_products import few, poisoned, quantize
from launch import Matrix, pack

from jitllm.backends._gpu.lower import ACTIVATIONS
from jitllm.kernels import formats, reference

QUANTIZED = [name for name in formats.names() if formats.get(name).planes]


def _matrix(name: str, n: int, k: int, seed: int) -> Matrix:
    n_blocks = n * k // formats.get(name).block_size
    data = random_blocks(name, n_blocks, np.random.default_rng(seed)).reshape(-1)
    return pack(name, data, n, k)


def _check(name: str, n: int, k: int, split: int, act: str = "silu") -> None:
    gate, up = (_matrix(name, n, k, seed) for seed in (1, 2))
    x = np.random.default_rng(3).standard_normal((1, k), np.float32)
    y, q = np.full((1, n), np.nan, np.float32), poisoned(n // 32 * 40)
    bytes_of = [np.array(matrix.memory.bytes) for matrix in (gate, up)]
    arguments = [np.array([1], np.uint32), *bytes_of, quantize(x), y, q, n, k]
    constants = split, ACTIVATIONS.index(act)
    launch("matvec_gated", constants, arguments, -(-n // (64 // split)), fmt=name)
    a, b = (few(matrix, x, split=split) for matrix in (gate, up))
    np.testing.assert_allclose(y, reference.glu(a, b, act), 1e-5, 1e-6 * float(np.abs(y).max()))
    np.testing.assert_array_equal(q, quantize(y))


@pytest.mark.parametrize("split", [1, 2])
def test_gated_units(split: int) -> None:
    _check("Q4_K", 96, 768, split)
    _check("Q8_0", 32, 32, split, "gelu")


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZED)
def test_gated_units_of_every_type(name: str) -> None:
    _check(name, 160, 3 * max(formats.get(name).block_size, 32), 2)


def test_no_rows() -> None:
    y, q, x = np.zeros((1, 32), np.float32), poisoned(40), quantize(np.ones((1, 32), np.float32))
    gate = np.array(_matrix("Q8_0", 32, 32, 1).memory.bytes)
    arguments = [np.array([0], np.uint32), gate, gate, x, y, q, 32, 32]
    launch("matvec_gated", (1, 0), arguments, 1, fmt="Q8_0")
    assert not y.any() and (q == 0xFF).all()
