"""Element by element on the simulated GPU: kernels against their twins."""

from typing import Any

import numpy as np
import pytest
from gpu_launch import launch
from gpu_products import poisoned, quantize
from gpu_rows import check, count, empty_rows, few, rows_of

from jitllm.backends._gpu.core import (
    ACTIVATION,
    ADD,
    BOUNDED_GLU,
    CLAMP,
    COPY,
    FILL,
    GATED,
    GLU,
    MUL,
    SCALE,
    SOFT_CAP,
    XIELU,
)
from jitllm.backends._gpu.lower import ACTIVATIONS, FORMS
from jitllm.backends.base import Floats
from jitllm.kernels import reference
from jitllm.kernels.reference import altup as reference_altup
from jitllm.kernels.reference import delta as reference_delta
from jitllm.kernels.reference import gated as reference_gated
from jitllm.kernels.reference import heads as reference_heads
from jitllm.kernels.reference import xielu as reference_xielu


def _random(*shape: int, seed: int = 0) -> Floats:
    return 3 * np.random.default_rng(seed).standard_normal(shape, np.float32)


def _groups(width: int, columns: int = 64) -> int:
    return -(-width // columns)


def _unary(x: Floats, op: int, act: int = 0, numbers: Any = ()) -> Floats:
    (n, width), source, y = x.shape, rows_of(x), empty_rows(*x.shape)
    numbers = [*numbers, 0.0, 0.0, 0.0, 0.0][:4]
    arguments = [count(n), source, y, source.shape[1], y.shape[1], width, *numbers]
    launch("unary", (op, act), arguments, (_groups(width, 256), n + 1))
    return y


@pytest.mark.parametrize("act", few(ACTIVATIONS, ("silu", "gelu_erf", "softplus")))
def test_activations(act: str) -> None:
    special = np.array([[0, -0.0, 1e-8, -1e-30, 50, -50, 100, -100, 3e4, -3e4]], np.float32)
    for x in (_random(3, 70), _random(2, 260), special):
        y = _unary(x, ACTIVATION, ACTIVATIONS.index(act))
        check(y, reference.activation(x, act), 3e-6, 1e-6)


def test_other_functions_of_one_value() -> None:
    x = _random(2, 65)
    numbers = {"alpha_p": 0.8, "alpha_n": 1.3, "beta": 0.5, "eps": -1e-6}
    for y, want in (
        (_unary(x, COPY), x),
        (_unary(x, SCALE, 0, [0.3]), reference.scale(x, 0.3)),
        (_unary(x, SOFT_CAP, 0, [2.5]), reference.soft_cap(x, 2.5)),
        (_unary(x, CLAMP, 0, [1.5]), np.clip(x, -1.5, 1.5)),
        (_unary(x, XIELU, 0, list(numbers.values())), reference_xielu.xielu(x, **numbers)),
        (_unary(np.full_like(x, np.nan), FILL, 0, [0.7]), np.full_like(x, 0.7)),
    ):
        check(y, want, 2e-6, 1e-7)


def _binary(
    a: Floats, b: Floats, op: int, act: int = 0, *, part: int = 1, shared: bool = False,
    bounds: tuple[float, float] = (0.0, 0.0),
) -> Floats:  # fmt: skip
    (n, width), first, second, y = a.shape, rows_of(a), rows_of(b), empty_rows(*a.shape)
    arguments = [
        count(n), first, second, y, first.shape[1], 0 if shared else second.shape[1], y.shape[1],
        width, part, *bounds,
    ]  # fmt: skip
    launch("binary", (op, act), arguments, (_groups(width, 256), n + 1))
    return y


@pytest.mark.parametrize("shape", [(1, 1), (3, 130), (2, 520)])
def test_sums_and_products(shape: tuple[int, int]) -> None:
    a, b = _random(*shape), _random(*shape, seed=1)
    check(_binary(a, b, ADD), a + b, 0)
    check(_binary(a, b, MUL), a * b, 0)
    check(_binary(a, b[:1], ADD, shared=True), a + b[:1], 0)
    check(_binary(a, b[:, :1], MUL, part=shape[1]), a * b[:, :1], 0)


@pytest.mark.parametrize("act", few(("silu", "softplus", "sigmoid"), ("silu",)))
def test_gates(act: str) -> None:
    a, b, place = _random(3, 96), _random(3, 96, seed=1), ACTIVATIONS.index(act)
    check(_binary(a, b, GLU, place), reference.glu(a, b, act), 3e-6, 1e-6)
    gate = b[:, :4].copy()
    want = reference_delta.gated(a, gate, act)
    check(_binary(a, gate, GATED, place, part=24), want, 3e-6, 1e-6)


def test_gates_and_their_rounded_rows() -> None:
    n, width, silu = 3, 288, ACTIVATIONS.index("silu")
    a, b = _random(n, width), _random(n, width, seed=1)
    first, second, y = rows_of(a), rows_of(b), empty_rows(n, width)
    q, strides = poisoned(n * width // 32 * 40), [z.shape[1] for z in (first, second, y)]
    arguments = [count(n), first, second, y, q, *strides, width, 0.0, 0.0]
    launch("binary_rounded", (GLU, silu), arguments, (_groups(width, 256), n + 1))
    np.testing.assert_array_equal(y, _binary(a, b, GLU, silu))
    np.testing.assert_array_equal(q, quantize(np.ascontiguousarray(y[:n, :width])))


@pytest.mark.parametrize("form", few(FORMS, ("swiglu_oai",)))
@pytest.mark.parametrize("bounds", [(2.0, 1.7), (7.0, 0.0)])
def test_gates_within_bounds(form: str, bounds: tuple[float, float]) -> None:
    a, b = _random(2, 70), _random(2, 70, seed=1)
    y = _binary(a, b, BOUNDED_GLU, FORMS.index(form), bounds=bounds)
    check(y, reference_gated.bounded_glu(a, b, form, bounds), 4e-6, 1e-6)


@pytest.mark.parametrize("kind", ["norm", "neox"])
@pytest.mark.parametrize(("head_dim", "n_rot"), [(16, 16), (20, 6), (64, 32)])
def test_rope(kind: str, head_dim: int, n_rot: int) -> None:
    n, n_heads = 3, 3
    x, positions = _random(n, n_heads * head_dim), np.array([0, 7, 1000])
    frequencies = (10000.0 ** -np.linspace(0, 1, n_rot // 2)).astype(np.float32)
    exact = (positions.astype(np.float32)[:, None] * frequencies).astype(np.float64)
    angles = np.stack([np.cos(exact), np.sin(exact)], -1).astype(np.float32)
    source, y = rows_of(x), empty_rows(*x.shape)
    arguments = [
        count(n), source, y, angles, source.shape[1], y.shape[1], x.shape[1], head_dim, n_rot, 1.3,
    ]  # fmt: skip
    launch("rope", (kind == "neox",), arguments, (_groups(x.shape[1]), n + 1))
    want = reference.rope(
        x, positions, n_heads=n_heads, head_dim=head_dim, n_rot=n_rot, frequencies=frequencies,
        magnitude=1.3, kind=kind,
    )  # fmt: skip
    check(y, want, 2e-6, 2e-6)


@pytest.mark.parametrize(("start", "stop"), [(0, 16), (3, 21)])
def test_columns_of_heads(start: int, stop: int) -> None:
    n, n_heads, size = 3, 5, 21
    x, wide = _random(n, n_heads * size), stop - start
    source, y = rows_of(x), empty_rows(n, n_heads * wide)
    at = np.concatenate([source.reshape(-1)[start:], np.zeros(start, np.float32)])
    arguments = [count(n), at, y, source.shape[1], y.shape[1], size, wide, n_heads, wide]
    launch("copy_heads", (), arguments, (_groups(n_heads * wide), n + 1))
    check(y, reference_heads.head_columns(x, start, stop, n_heads=n_heads), 0)


def test_chosen_rows() -> None:
    x, chosen = _random(6, 100), np.array([5, 0, 3, 3], np.int32)
    source, y = rows_of(x), empty_rows(4, 100)
    arguments = [count(4), chosen, source, y, source.shape[1], y.shape[1], 100]
    launch("select_rows", (), arguments, (2, 4))
    check(y, x[chosen], 0)


def test_weighted_sums() -> None:
    n, width, k = 3, 70, 4
    x, weights = _random(n * k, width), _random(n, k, seed=1)
    source, y = rows_of(x), empty_rows(n, width)
    strides = source.shape[1], y.shape[1]
    parts = x.reshape(n, k, width).astype(np.float64)
    for is_weighed, factors in ((True, weights), (False, np.ones_like(weights))):
        arguments = [count(n), source, weights, y, *strides, width, k]
        launch("weighted_sum", (is_weighed,), arguments, (2, n + 1))
        want = (parts * factors[..., None]).sum(axis=1).astype(np.float32)
        check(y, want, 2e-6, 4e-6)


def test_weighted_add() -> None:
    x, gates, other = _random(3, 70), _random(3, 5, seed=1), _random(3, 70, seed=2)
    a, b, c, y = rows_of(x), rows_of(gates[:, 2:]), rows_of(other), empty_rows(3, 70)
    strides = (z.shape[1] for z in (a, b, c, y))
    launch("weighted_add", (), [count(3), a, b, c, y, *strides, 70, 1.0], (2, 4))
    check(y, reference_altup.weighted_add(x, gates, [other], 2, 1.0), 2e-6, 2e-6)
    launch("weighted_add", (), [count(3), y, b, c, y, 80, b.shape[1], 80, 80, 70, 0.0], (2, 3))
    want = reference_altup.weighted_add(x, gates, [other], 2, 1.0)
    check(y, reference_altup.weighted_add(want, gates, [other], 2, 0.0), 4e-6, 4e-6)
