"""Repacking: every format, odd sizes, and back again bit for bit."""

import numpy as np
import pytest
from blocks import edge_blocks, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import bits, embed, pack

from jitllm.kernels import formats, host, packed, reference

NAMES = formats.names()


def _data(name: str, n: int, k: int, seed: int = 0) -> np.ndarray:
    """Return the file's bytes of a random (n, k) matrix."""
    n_blocks = n * k // formats.get(name).block_size
    return random_blocks(name, n_blocks, np.random.default_rng([seed, n, k])).reshape(n, -1)


def _check(name: str, data: np.ndarray, n: int, k: int) -> None:
    expected = formats.dequantize(name, data.reshape(-1), (n, k))
    got = embed(pack(name, data, n, k), np.arange(n))
    assert np.array_equal(bits(got), bits(expected))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 50])
def test_packed_rows_are_the_files_rows(name: str, n: int) -> None:
    size = formats.get(name).block_size
    for n_blocks in (1, 2, 3, 300 // size + 1):
        _check(name, _data(name, n, n_blocks * size), n, n_blocks * size)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_blocks(name: str) -> None:
    """All bits set or clear, scales of zero, of either sign, subnormal and the largest."""
    blocks = edge_blocks(name)
    _check(name, blocks, len(blocks), formats.get(name).block_size)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(NAMES), n=st.integers(1, 70), n_blocks=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_any_shape(name: str, n: int, n_blocks: int, seed: int) -> None:
    k = n_blocks * formats.get(name).block_size
    _check(name, _data(name, n, k, seed), n, k)


@pytest.mark.parametrize("name", ["Q4_K", "Q5_0", "F16"])
def test_threads_write_the_same_bytes(name: str) -> None:
    k = 512
    data = _data(name, 100, k)
    single = pack(name, data, 100, k)
    with host.threads(2):
        double = pack(name, data, 100, k)
    assert np.array_equal(single.memory.bytes, double.memory.bytes)


@pytest.mark.parametrize("name", NAMES)
def test_rows_past_the_end_are_zero(name: str) -> None:
    """They are multiplied as well, and must not make NaN."""
    k = 256
    matrix = pack(name, _data(name, 17, k), 17, k)
    past = embed(matrix, np.arange(17, 32))
    assert np.all(past == 0)


def test_packed_bytes_are_nearly_the_files() -> None:
    """Scales of 3 to 8 bits become bytes, points of lattices codes of 3 or 4 bits a weight."""
    for name in NAMES:
        fmt = formats.get(name)
        file_bytes = 512 // fmt.block_size * fmt.block_bytes * 32
        extra = (packed.matrix_bytes(name, 32, 512) - file_bytes) // (32 * 2)
        small_scales = {"Q2_K": 16, "Q3_K": 4, "Q4_K": 4, "Q5_K": 4, "IQ4_XS": 2, "NVFP4": 16}
        if name[:3] in ("IQ1", "IQ2", "IQ3", "TQ1"):
            assert packed.matrix_bytes(name, 32, 512) < 2.2 * file_bytes, name
        else:
            assert extra == small_scales.get(name, 0), name
        assert packed.matrix_bytes(name, 17, 512) == packed.matrix_bytes(name, 32, 512)


def test_embed_takes_any_tokens() -> None:
    data = _data("Q6_K", 33, 256)
    matrix = pack("Q6_K", data, 33, 256)
    tokens = np.array([32, 0, 5, 5, 16, 31, 32])
    expected = reference.embed(tokens, "Q6_K", data.reshape(-1), (33, 256))
    assert np.array_equal(bits(embed(matrix, tokens)), bits(expected))
    with host.threads(2):
        assert np.array_equal(bits(embed(matrix, tokens)), bits(expected))
    assert embed(matrix, []).shape == (0, 256)
