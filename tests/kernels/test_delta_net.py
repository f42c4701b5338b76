"""Delta nets: the recurrence against its definition, its decay, gates, and their bits."""

from typing import Any

import numpy as np
import pytest
from launch import rows_of, run_block

from jitllm.backends.cpu_ops.decay_gate import DECAY_GATE
from jitllm.backends.cpu_ops.delta_net import DELTA_NET
from jitllm.backends.cpu_ops.gated import GATED
from jitllm.kernels import abi, host
from jitllm.kernels.reference import delta as reference_delta

Floats = Any


def _inputs(seed: int, n: int, per_row: bool, sizes: dict[str, int]) -> list[Floats]:
    """q, k, v, decay, beta of n tokens; keys have length 1, as in models."""
    heads, key_heads, dk, dv = sizes.values()
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, n, key_heads, dk))
    q, k = (x / np.linalg.norm(x, axis=2, keepdims=True) for x in (q, k))
    v = rng.standard_normal((n, heads * dv))
    decay = rng.uniform(0.3, 1, (n, heads * dk if per_row else heads))
    beta = rng.uniform(0, 1, (n, heads))
    return [x.reshape(n, -1).astype(np.float32) for x in (q, k, v, decay, beta)]


def _oracle(inputs: list[Floats], head: int, key_head: int, sizes: dict[str, int]) -> Floats:
    """One head by products of matrices, in float64: S = (1 - beta k k^T) D S + beta k v^T."""
    (q, k, v, decay, beta), (heads, _, dk, dv) = inputs, sizes.values()
    s, out = np.zeros((dk, dv)), np.empty((len(q), dv))
    part = slice(key_head * dk, (key_head + 1) * dk)
    for t in range(len(q)):
        key, b = k[t, part].astype(np.float64)[:, None], float(beta[t, head])
        d = decay[t].astype(np.float64).reshape(heads, -1)[head]
        value = v[t, head * dv : (head + 1) * dv].astype(np.float64)[None, :]
        kept = (np.eye(dk) - b * key @ key.T) @ np.diag(np.broadcast_to(d, dk))
        s = kept @ s + b * key @ value
        out[t] = s.T @ q[t, part].astype(np.float64) / np.sqrt(dk)
    return out


def _launch(
    inputs: list[Floats], segments: list[tuple[int, int, int, int]], states: Floats, **sizes: Any
) -> Floats:
    """Run rows by segments of (row, rows, slot in, slot out); `states` [slots, H * dk * dv]."""
    rows = [rows_of(x) for x in inputs]
    n, heads, dk, dv = len(rows[0]), sizes["heads"], sizes["dk"], sizes["dv"]
    out = host.empty_rows(n, heads * dv)
    words = np.zeros((len(segments), abi.SEGMENT_WORDS), np.int64)
    for line, segment in zip(words, segments, strict=True):
        names = (abi.SEGMENT_ROW, abi.SEGMENT_ROWS, abi.SEGMENT_STATE_IN, abi.SEGMENT_STATE_OUT)
        line[list(names)] = segment
    values: dict[str, Any] = {}
    for name, x in zip(("q", "k", "v", "decay", "beta"), rows, strict=True):
        values |= {name: x.ctypes.data, f"ld{name[0]}": x.strides[0]}
    host.launch(
        DELTA_NET, run_block(n, N_SEGMENTS=len(segments), SEGMENTS=words.ctypes.data), params={},
        **values, out=out.ctypes.data, ldo=out.strides[0], n_heads=heads,
        n_key_heads=sizes["key_heads"], dk=dk, dv=dv, tiled=int(sizes.get("tiled", False)),
        step=0 if inputs[3].shape[1] == heads else 4, states=states.ctypes.data,
        slot_bytes=states.strides[0], scale=dk**-0.5,
    )  # fmt: skip
    return np.array(out)


def _states(n: int, heads: int, dk: int, dv: int) -> Floats:
    return host.aligned(4 * n * heads * dk * dv).view(np.float32).reshape(n, -1)


SIZES = [(4, 2, 16, 16), (2, 2, 20, 48), (3, 1, 64, 64), (2, 1, 32, 80), (6, 2, 8, 128)]


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("heads", "key_heads", "dk", "dv"), SIZES)
def test_recurrence_is_the_definition(
    heads: int, key_heads: int, dk: int, dv: int, tiled: bool, per_row: bool
) -> None:
    sizes = {"heads": heads, "key_heads": key_heads, "dk": dk, "dv": dv}
    inputs = _inputs(1, 9, per_row, sizes)
    expected = []
    for h in range(heads):
        key_head = h % key_heads if tiled else h // (heads // key_heads)
        expected.append(_oracle(inputs, h, key_head, sizes))
    want = np.concatenate(expected, axis=1)
    q, k, v, decay, beta = inputs
    zeros = np.zeros((heads, dk, dv), np.float32)
    twin, state = reference_delta.delta_net(
        q, k, v, decay, beta, zeros, n_key_heads=key_heads, scale=dk**-0.5, tiled=tiled
    )
    np.testing.assert_allclose(twin, want, rtol=1e-6, atol=1e-7)
    states = _states(2, heads, dk, dv)
    got = _launch(inputs, [(0, 9, -1, 1)], states, tiled=tiled, **sizes)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(states[1], state.reshape(-1), rtol=1e-5, atol=1e-6)
    assert np.isnan(states[0]).all()


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("dv", [64, 80])
def test_bits_do_not_depend_on_runs_or_threads(dv: int, per_row: bool) -> None:
    sizes = {"heads": 4, "key_heads": 2, "dk": 32, "dv": dv}
    inputs = _inputs(2, 30, per_row, sizes)
    states = _states(2, 4, 32, dv)
    whole = _launch(inputs, [(0, 30, -1, 0)], states, **sizes)
    final = states[0].copy()
    with host.threads(2):
        assert np.array_equal(_launch(inputs, [(0, 30, -1, 0)], states, **sizes), whole)
    parts, slots = [], (-1, 0)
    for start, stop in ((0, 1), (1, 18), (18, 19), (19, 30)):
        cut = [x[start:stop] for x in inputs]
        parts.append(_launch(cut, [(0, stop - start, *slots)], states, **sizes))
        slots = slots[1], 1 - slots[1]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(states[slots[0]], final)


def test_sequences_of_a_run_do_not_meet() -> None:
    sizes = {"heads": 2, "key_heads": 2, "dk": 16, "dv": 64}
    inputs = _inputs(3, 12, True, sizes)
    states = _states(5, 2, 16, 64)
    alone = [
        _launch([x[part] for x in inputs], [(0, n, -1, 4)], states, **sizes)
        for part, n in ((slice(0, 5), 5), (slice(5, 12), 7))
    ]
    both = _launch(inputs, [(0, 5, -1, 0), (5, 7, -1, 1)], states, **sizes)
    assert np.array_equal(both, np.concatenate(alone))
    kept = states[0].copy()
    more = _launch(inputs, [(0, 5, 0, 2), (5, 7, 1, 3)], states, **sizes)
    assert np.array_equal(states[0], kept)  # a run that is interrupted has changed nothing
    assert not np.array_equal(more, both)


@pytest.mark.parametrize("form", ["softplus", "exp", "sigmoid"])
@pytest.mark.parametrize("width", [2, 16, 100])
def test_decay_gate_equals_twin(width: int, form: str) -> None:
    rng = np.random.default_rng(4)
    x = (8 * rng.standard_normal((7, width))).astype(np.float32)
    x[0, 0], x[1, 0] = 100, -100
    shift, rate = np.zeros((2, -(-width // 16) * 16), np.float32)
    shift[:width], rate[:width] = rng.standard_normal((2, width))
    rate = -np.abs(rate)
    bound = -5.0 if form == "sigmoid" else None
    rows, y = rows_of(x), host.empty_rows(7, width)
    host.launch(
        DECAY_GATE, run_block(7), params={"form": form}, rows=abi.N_TOKENS,
        x=rows.ctypes.data, ldx=rows.strides[0], shift=shift.ctypes.data, rate=rate.ctypes.data,
        y=y.ctypes.data, ldy=y.strides[0], width=width, bound=bound or 0.0,
    )  # fmt: skip
    expected = reference_delta.decay_gate(x, shift[:width], rate[:width], bound, form)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-37)
    assert (y >= 0).all() and (y <= 1).all()


@pytest.mark.parametrize("act", ["sigmoid", "silu", "softplus"])
@pytest.mark.parametrize(("width", "gates"), [(64, 1), (60, 3), (48, 48), (34, 17)])
def test_gated_equals_twin(width: int, gates: int, act: str) -> None:
    rng = np.random.default_rng(5)
    x, gate = (rng.standard_normal((5, n)).astype(np.float32) for n in (width, gates))
    rows, opened, y = rows_of(x), rows_of(gate), host.empty_rows(5, width)
    host.launch(
        GATED, run_block(5), params={"act": act}, rows=abi.N_TOKENS, x=rows.ctypes.data,
        ldx=rows.strides[0], gate=opened.ctypes.data, ldg=opened.strides[0], y=y.ctypes.data,
        ldy=y.strides[0], width=width, group=width // gates,
    )  # fmt: skip
    expected = reference_delta.gated(x, gate, act)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-7)
    last = float(gate[2, -1])
    opened_by_hand = {
        "sigmoid": 1 / (1 + np.exp(-last)),
        "silu": last / (1 + np.exp(-last)),
        "softplus": np.log1p(np.exp(last)),
    }
    assert abs(y[2, -1] - x[2, -1] * opened_by_hand[act]) < 1e-6
