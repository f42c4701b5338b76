"""Residual streams, mixes and decays on the simulated GPU against their twins."""

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import check, count, empty_rows, few, rows_of

from jitllm.backends.base import Floats
from jitllm.backends.gpu_ops.decay_gate import FORMS
from jitllm.kernels.reference import delta as reference_delta
from jitllm.kernels.reference import streams as reference_streams


def _random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("n_streams", few((2, 4), (4,)))
@pytest.mark.parametrize("kind", ["read", "read and write", "mix"])
def test_gates(n_streams: int, kind: str) -> None:
    width = {"read": n_streams, "mix": (n_streams + 2) * n_streams}.get(kind, 2 * n_streams)
    x, scale, base = 3 * _random(3, width), _random(width, seed=1), _random(width, seed=2)
    source, y = rows_of(x), empty_rows(3, width)
    rules = {"eps": 1e-3, "magnitude": 2.0, "post_eps": 1e-2}
    for iterations in (0, 1, 5) if kind == "mix" else (0,):
        strides = source.shape[1], y.shape[1]
        arguments = [count(3), source, scale, base, y, *strides, width, iterations]
        launch("stream_gates", (n_streams,), [*arguments, *rules.values()], (1, 4))
        want = reference_streams.stream_gates(
            x, n_streams=n_streams, scale=scale, base=base, iterations=iterations, **rules
        )
        check(y, want, 4e-6)


@pytest.mark.parametrize("mixes", [False, True])
def test_streams_are_read_and_written(mixes: bool) -> None:
    n, s, width = 3, 4, 50
    x, streams = _random(n, width), _random(n, s * width, seed=1)
    gates = _random(n, (s + 2) * s if mixes else 2 * s, seed=2)
    a, b, c, y = rows_of(x), rows_of(streams), rows_of(gates), empty_rows(n, s * width)
    strides = (z.shape[1] for z in (a, b, c, y))
    launch("stream_write", (s, mixes), [count(n), a, b, c, y, *strides, width], (4, n + 1))
    want = reference_streams.stream_write(x, streams, gates, n_streams=s)
    check(y, want, 2e-6, 2e-6)
    y = empty_rows(n, width)
    strides = (z.shape[1] for z in (b, c, y))
    launch("stream_read", (s,), [count(n), b, c, y, *strides, width], (1, n + 1))
    check(y, reference_streams.stream_read(streams, gates, n_streams=s), 2e-6, 2e-6)


@pytest.mark.parametrize("n_values", few((1, 2, 5), (5,)))
def test_softmax_mix(n_values: int) -> None:
    n, width = 3, 100
    values = [_random(n, width, seed=i) for i in range(n_values)]
    scores = [40 * _random(n, 1, seed=9 + i) for i in range(n_values)]
    memory, y = np.full((n + 1, 16), np.nan, np.float32), empty_rows(n, width)
    for c, (value, score) in enumerate(zip(values, scores, strict=True)):
        x, s = rows_of(value), rows_of(score)
        before, after = (np.roll(memory, -2 * i, 1).copy() for i in (max(c - 1, 0), c))
        strides = x.shape[1], s.shape[1], 16, y.shape[1]
        arguments = [count(n), x, s, before, after, y, *strides, width]
        launch("softmax_mix", (c == 0, c == n_values - 1), arguments, (2, n + 1))
        memory[:, 2 * c : 2 * c + 2] = after[:, :2]
    weights = np.exp(np.stack(scores) - np.max(scores, axis=0)).astype(np.float64)
    want = (weights * np.stack(values)).sum(axis=0) / weights.sum(axis=0)
    check(y, want.astype(np.float32), 4e-6, 1e-6)


@pytest.mark.parametrize("form", few(FORMS, ("softplus",)))
@pytest.mark.parametrize("part", [1, 16])
def test_decay_gate(form: str, part: int) -> None:
    n, width = 3, 80
    x, shift = 3 * _random(n, width), _random(width, seed=1)
    rate = -np.abs(_random(width // part, seed=2))
    bound = -0.6 if form == "sigmoid" else None
    source, y = rows_of(x), empty_rows(n, width)
    strides = source.shape[1], y.shape[1]
    arguments = [count(n), source, shift, rate, y, *strides, width, part, bound or 0.0]
    launch("decay_gate", (FORMS.index(form),), arguments, (2, n + 1))
    want = reference_delta.decay_gate(x, shift, np.repeat(rate, part), bound, form)
    check(y, want, 2e-5, 1e-9)
