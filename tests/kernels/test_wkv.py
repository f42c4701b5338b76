"""RWKV's recurrences, mixes and bonus: kernels against twins, twins against definitions, bits."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from launch import rows_of, run_block

from jitllm.backends.cpu_ops.head_bonus import HEAD_BONUS
from jitllm.backends.cpu_ops.lerp import LERP
from jitllm.backends.cpu_ops.wkv import WKV
from jitllm.kernels import abi, host
from jitllm.kernels.reference import wkv as reference_wkv
from jitllm.llm.graph.words.wkv import FORMS

Floats = Any
NAMES = ("r", "k", "v", "w", "erase", "rate")
STRIDES = {"erase": "lde", "rate": "lda"}


class Case:
    """Inputs of some tokens for heads of dk by dv."""

    def __init__(self, form: str, n: int, heads: int, key_heads: int, dk: int, dv: int) -> None:
        rng = np.random.default_rng(n + heads * dk)
        self.form, self.sizes = form, (heads, key_heads, dk, dv)
        r = rng.standard_normal((n, heads * dk))
        k = rng.standard_normal((n, key_heads * dk)) / np.sqrt(dk)
        v = rng.standard_normal((n, key_heads * dv))
        w, a = rng.uniform(0.3, 1, (n, heads * dk)), rng.uniform(0, 1, (n, heads * dk))
        e = rng.standard_normal((n, heads, dk))
        e = (e / np.linalg.norm(e, axis=2, keepdims=True)).reshape(n, -1)
        inputs = (r, k, v, w, e, a) if form == "delta" else (r, k, v, w)
        self.inputs = [x.astype(np.float32) for x in inputs]

    def cut(self, rows: slice) -> list[Floats]:
        """Some rows of the inputs."""
        return [x[rows] for x in self.inputs]

    def twin(self, state: Floats) -> tuple[Floats, Floats]:
        """Outputs and new state by the twin; `state` is [H, dk, dv]."""
        erase, rate = self.inputs[4:] or (None, None)
        options: dict[str, Any] = {"form": self.form, "n_key_heads": self.sizes[1]}
        r, k, v, w = self.inputs[:4]
        return reference_wkv.wkv(r, k, v, w, state, erase=erase, rate=rate, **options)

    def launch(
        self, inputs: list[Floats], segments: list[tuple[int, int, int, int]], states: Floats
    ) -> Floats:
        """Run rows by segments of (row, rows, slot in, slot out)."""
        heads, key_heads, dk, dv = self.sizes
        rows, y = [rows_of(x) for x in inputs], host.empty_rows(len(inputs[0]), heads * dv)
        words = np.zeros((len(segments), abi.SEGMENT_WORDS), np.int64)
        names = (abi.SEGMENT_ROW, abi.SEGMENT_ROWS, abi.SEGMENT_STATE_IN, abi.SEGMENT_STATE_OUT)
        for line, segment in zip(words, segments, strict=True):
            line[list(names)] = segment
        values: dict[str, Any] = {"erase": 0, "lde": 0, "rate": 0, "lda": 0}
        for name, x in zip(NAMES, rows, strict=False):
            values |= {name: x.ctypes.data, STRIDES.get(name, f"ld{name}"): x.strides[0]}
        run = run_block(len(y), N_SEGMENTS=len(segments), SEGMENTS=words.ctypes.data)
        host.launch(
            WKV, run, params={"form": self.form}, **values, y=y.ctypes.data, ldy=y.strides[0],
            n_heads=heads, n_key_heads=key_heads, dk=dk, dv=dv, states=states.ctypes.data,
            slot_bytes=states.strides[0],
        )  # fmt: skip
        return np.array(y)


def _states(n: int, case: Case) -> Floats:
    """NaN for n slots of a case's states."""
    heads, _, dk, dv = case.sizes
    return host.aligned(4 * n * heads * dk * dv).view(np.float32).reshape(n, -1)


def _by_hand(case: Case) -> Floats:
    """One token after the other, number by number of a state: no matrix product, no lanes."""
    heads, key_heads, dk, dv = case.sizes
    rows = [x.astype(np.float64) for x in case.inputs]
    out = np.zeros((len(rows[0]), heads, dv))
    for h in range(heads):
        g = h // (heads // key_heads)
        s = np.zeros((dk, dv))
        for t in range(len(out)):
            r, w = (rows[i][t, h * dk : (h + 1) * dk] for i in (0, 3))
            k, v = rows[1][t, g * dk : (g + 1) * dk], rows[2][t, g * dv : (g + 1) * dv]
            if case.form == "before":
                out[t, h] = r @ s
            change = np.outer(k * (1 - w) if case.form == "gated" else k, v)
            if case.form == "delta":
                e, a = (rows[i][t, h * dk : (h + 1) * dk] for i in (4, 5))
                change = change - np.outer(a * e, e) @ s
            s = w[:, None] * s + change
            if case.form != "before":
                out[t, h] = r @ s
    return out.reshape(len(out), -1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("key_heads", "dk", "dv"), [(4, 16, 16), (2, 5, 19), (1, 64, 64)])
def test_the_twin_is_the_definition(form: str, key_heads: int, dk: int, dv: int) -> None:
    case = Case(form, 7, 4, key_heads, dk, dv)
    got, _ = case.twin(np.zeros((4, dk, dv), np.float32))
    np.testing.assert_allclose(got, _by_hand(case), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@given(
    n=st.integers(1, 5),
    heads=st.sampled_from([(1, 1), (4, 2), (3, 3), (6, 2)]),
    dk=st.integers(1, 40),
    dv=st.integers(1, 150),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_kernel_equals_the_twin(
    form: str, n: int, heads: tuple[int, int], dk: int, dv: int
) -> None:
    case = Case(form, n, *heads, dk, dv)
    states = _states(4, case)
    rng = np.random.default_rng(1)
    states[1] = rng.standard_normal(states[1].shape)
    for slot in (-1, 1):
        before = np.zeros_like(states[1]) if slot < 0 else states[1].copy()
        want, state = case.twin(before.reshape(heads[0], dk, dv))
        got = case.launch(case.inputs, [(0, n, slot, 2)], states)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(states[2], state.reshape(-1), rtol=1e-4, atol=1e-5)
        assert np.isnan(states[[0, 3]]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dv", [64, 83])
def test_bits_do_not_depend_on_runs_or_threads(form: str, dv: int) -> None:
    case = Case(form, 30, 4, 2, 32, dv)
    states = _states(2, case)
    whole = case.launch(case.inputs, [(0, 30, -1, 0)], states)
    final = states[0].copy()
    with host.threads(2):
        assert np.array_equal(case.launch(case.inputs, [(0, 30, -1, 0)], states), whole)
    parts, slots = [], (-1, 0)
    for start, stop in ((0, 1), (1, 18), (18, 19), (19, 30)):
        parts.append(case.launch(case.cut(slice(start, stop)), [(0, stop - start, *slots)], states))
        slots = slots[1], 1 - slots[1]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(states[slots[0]], final)


@pytest.mark.parametrize("form", FORMS)
def test_sequences_of_a_run_do_not_meet(form: str) -> None:
    case = Case(form, 12, 2, 2, 16, 64)
    states = _states(5, case)
    alone = [
        case.launch(case.cut(part), [(0, n, -1, 4)], states)
        for part, n in ((slice(0, 5), 5), (slice(5, 12), 7))
    ]
    both = case.launch(case.inputs, [(0, 5, -1, 0), (5, 7, -1, 1)], states)
    assert np.array_equal(both, np.concatenate(alone))
    kept = states[0].copy()
    more = case.launch(case.inputs, [(0, 5, 0, 2), (5, 7, 1, 3)], states)
    assert np.array_equal(states[0], kept)  # a run that is interrupted has changed nothing
    assert not np.array_equal(more, both)


def _lerp(a: Floats, b: Floats, factors: Floats | None, shifts: Floats | None, m: int) -> Floats:
    n, width = a.shape
    rows = [rows_of(x) for x in (a, b)]
    moved = None if shifts is None else rows_of(shifts)
    placed = None if factors is None else np.pad(factors, ((0, 0), (0, -width % 16)))
    y = host.empty_rows(n, m * width)
    names = zip(("a", "b", "shifts", "factors", "y"), ("lda", "ldb", "lds", "ldf", "ldy"),
                (*rows, moved, placed, y), strict=True)  # fmt: skip
    values: dict[str, int] = {}
    for name, stride, x in names:
        values |= {
            name: 0 if x is None else x.ctypes.data,
            stride: 0 if x is None else x.strides[0],
        }
    with host.threads(2):
        host.launch(LERP, run_block(n), params={}, rows=abi.N_TOKENS, width=width, m=m, **values)
    return y


@given(n=st.integers(1, 3), width=st.integers(1, 50), m=st.integers(1, 6), kind=st.integers(0, 2))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_lerp_equals_its_twin(n: int, width: int, m: int, kind: int) -> None:
    rng = np.random.default_rng(width)
    a, b = rng.standard_normal((2, n, width), np.float32)
    factors = rng.random((m, width), np.float32) if kind != 1 else None
    shifts = rng.standard_normal((n, m * width), np.float32) if kind != 0 else None
    got = _lerp(a, b, factors, shifts, m)
    want = reference_wkv.lerp(a, b, factors, shifts)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    at = (0 if factors is None else factors[m - 1]) + (
        0 if shifts is None else shifts[:, (m - 1) * width :]
    )
    np.testing.assert_allclose(
        got[:, (m - 1) * width :], a * (1 - at) + b * at, rtol=1e-4, atol=1e-5
    )


@given(n=st.integers(1, 3), heads=st.integers(1, 4), dk=st.integers(1, 70), dv=st.integers(1, 70))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_head_bonus_equals_its_twin(n: int, heads: int, dk: int, dv: int) -> None:
    rng = np.random.default_rng(dk)
    x, v = rng.standard_normal((2, n, heads * dv), np.float32)
    r, k = rng.standard_normal((2, n, heads * dk), np.float32)
    factors = rng.standard_normal(heads * dk, np.float32)
    values: dict[str, int] = {}
    rows = {name: rows_of(value) for name, value in zip("xvrk", (x, v, r, k), strict=True)}
    rows["y"] = host.empty_rows(n, heads * dv)
    for name, value in rows.items():
        values |= {name: value.ctypes.data, f"ld{name}": value.strides[0]}
    host.launch(
        HEAD_BONUS, run_block(n), params={}, rows=abi.N_TOKENS, factors=factors.ctypes.data,
        n_heads=heads, dk=dk, dv=dv, **values,
    )  # fmt: skip
    want = reference_wkv.head_bonus(x, v, r, k, factors, heads)
    np.testing.assert_allclose(rows["y"], want, rtol=1e-4, atol=1e-4)
    last = slice((heads - 1) * dk, heads * dk)
    share = np.sum(r[:, last].astype(np.float64) * k[:, last] * factors[last], axis=1)
    by_hand = x[:, -1] + v[:, -1] * share
    np.testing.assert_allclose(rows["y"][:, -1], by_hand, rtol=1e-4, atol=1e-4)
