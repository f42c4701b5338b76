"""Rotary embedding against its twin."""

import numpy as np
import pytest

from jitllm.kernels import host, reference


def _input(n_tokens: int, n_heads: int, head_dim: int) -> np.ndarray:
    rng = np.random.default_rng(head_dim)
    return rng.standard_normal((n_tokens, n_heads * head_dim)).astype(np.float32)


def _frequencies(n_rot: int) -> np.ndarray:
    return (10000.0 ** (-np.arange(n_rot // 2) / max(1, n_rot // 2))).astype(np.float32)


@pytest.mark.parametrize("kind", ["norm", "neox"])
@pytest.mark.parametrize(
    ("n_heads", "head_dim", "n_rot"),
    [(3, 64, 64), (2, 80, 32), (5, 20, 20), (1, 2, 2), (4, 10, 6), (2, 128, 96), (3, 7, 0)],
)
def test_rope_equals_twin(kind: str, n_heads: int, head_dim: int, n_rot: int) -> None:
    x = _input(6, n_heads, head_dim)
    positions = np.array([0, 1, 2, 63, 4095, 131071])
    options = dict(n_heads=n_heads, head_dim=head_dim, n_rot=n_rot, magnitude=1.25, kind=kind,
                   frequencies=_frequencies(n_rot))  # fmt: skip
    actual = host.rope(x, positions, **options)  # type: ignore[arg-type]
    expected = reference.rope(x, positions, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=2e-6)
    assert np.array_equal(actual.reshape(6, n_heads, -1)[..., n_rot:],
                          x.reshape(6, n_heads, -1)[..., n_rot:])  # fmt: skip


def test_far_positions_keep_the_length_and_the_angle() -> None:
    x = _input(200, 1, 32)
    positions = np.random.default_rng(1).integers(0, 1_000_000, 200)
    options = dict(n_heads=1, head_dim=32, n_rot=32, kind="neox", frequencies=_frequencies(32))
    actual = host.rope(x, positions, **options)  # type: ignore[arg-type]
    expected = reference.rope(x, positions, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(actual, expected, atol=2e-6)


def test_bits_do_not_depend_on_batch_or_threads() -> None:
    x, positions = _input(300, 9, 64), np.arange(300)
    options = dict(n_heads=9, head_dim=64, n_rot=64, frequencies=_frequencies(64))
    whole = host.rope(x, positions, **options)  # type: ignore[arg-type]
    with host.threads(2):
        assert np.array_equal(host.rope(x, positions, **options), whole)  # type: ignore[arg-type]
    part = host.rope(x[7:9], positions[7:9], **options)  # type: ignore[arg-type]
    assert np.array_equal(part, whole[7:9])


def test_bad_arguments() -> None:
    x = _input(1, 1, 8)
    with pytest.raises(ValueError, match="n_rot must be even and at most head_dim 8"):
        host.rope(
            x, np.zeros(1, int), n_heads=1, head_dim=8, n_rot=10, frequencies=_frequencies(10)
        )
    with pytest.raises(ValueError, match="kind must be one of"):
        host.rope(x, np.zeros(1, int), n_heads=1, head_dim=8, n_rot=8, kind="x",
                  frequencies=_frequencies(8))  # fmt: skip
