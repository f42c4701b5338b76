"""Recurrent operations on the simulated GPU against their twins, and the same however rows are cut.

Slots of states that nobody wrote are NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gpu_launch import launch
from gpu_rows import RunBlock, check, count, empty_rows, rows_of

from jitllm.backends._gpu.lower import STATE_COLUMNS
from jitllm.kernels.cuda._states import COLUMNS_OF_GROUP
from jitllm.kernels.reference import delta as reference_delta
from jitllm.kernels.reference import ssm as reference_ssm
from jitllm.kernels.reference import wkv as reference_wkv

Floats = npt.NDArray[np.float32]
Rows = list[Any]  # float32 arrays, and None
MORE = 5  # floats of other states behind this one in a slot
SEGMENTS = [(1, 2, 0), (5, -1, 3), (3, 4, 1)]  # rows, slot before and behind


def _random(*shape: int) -> Floats:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


@dataclass(frozen=True)
class Scan:
    """A kernel and its twin.

    `rows` are inputs with a row for each token, `fixed` those without; `twin` makes outputs and the
    new state of rows and a state.
    """

    kernel: str
    constants: tuple[int, ...]
    groups: int
    rows: Rows
    width: int
    size: int
    twin: Callable[[Rows, Floats], tuple[Floats, Floats]]
    fixed: tuple[Floats | None, ...] = ()
    words: tuple[Any, ...] = ()
    scale: tuple[float, ...] = ()

    def run(self, part: slice, segments: Sequence[tuple[int, int, int]], slots: Floats) -> Floats:
        """Run some rows, in segments (rows, slot before, slot behind); `slots` change."""
        block = _Run([(rows, 0) for rows, _, _ in segments], [])
        block.use([slots for _, *slots in segments])
        rows = [None if x is None else rows_of(x[part]) for x in self.rows]
        y = empty_rows(block.n_rows, self.width)
        strides = [0 if x is None else x.shape[1] for x in rows]
        arguments = [
            block.head, *rows, y, *self.fixed, slots, *strides, y.shape[1], *self.words,
            4 * slots.shape[1], *self.scale,
        ]  # fmt: skip
        launch(self.kernel, self.constants, arguments, (self.groups, block.n_rows + 1))
        assert np.isnan(y[block.n_rows :]).all() and np.isnan(y[:, self.width :]).all()
        return np.ascontiguousarray(y[: block.n_rows, : self.width])

    def slots(self) -> Floats:
        """Return slots whose states before the segments are there, all else NaN."""
        slots = np.full((6, self.size + MORE), np.nan, np.float32)
        for slot in (2, 4):
            slots[slot, : self.size] = _random(6, self.size)[slot]
        return slots

    def check(self) -> None:
        """Compare with the twin, and with the same rows one by one."""
        slots, at = self.slots(), 0
        n = sum(rows for rows, _, _ in SEGMENTS)
        y = self.run(slice(0, n), SEGMENTS, slots)
        for rows, before, behind in SEGMENTS:
            part = slice(at, at + rows)
            state = self.slots()[before, : self.size] if before >= 0 else np.zeros(self.size, "f4")
            want, after = self.twin([None if x is None else x[part] for x in self.rows], state)
            np.testing.assert_allclose(y[part], want, 2e-4, 2e-5)
            np.testing.assert_allclose(slots[behind, : self.size], after.reshape(-1), 2e-4, 2e-5)
            at += rows
        untouched = [5, *({0, 1, 3} - {behind for _, _, behind in SEGMENTS})]
        assert np.isnan(slots[untouched]).all() and np.isnan(slots[:, self.size :]).all()
        self._check_cuts(y, slots)

    def _check_cuts(self, y: Floats, slots: Floats) -> None:
        own, before = self.slots(), -1
        for t, behind in zip(range(1, 6), (0, 1, 0, 1, 3), strict=True):
            row = self.run(slice(t, t + 1), [(1, before, behind)], own)
            assert np.array_equal(row, y[t : t + 1])
            before = behind
        assert np.array_equal(own[3, : self.size], slots[3, : self.size])


class _Run(RunBlock):
    """A run block with slots of states."""

    def use(self, slots: Any) -> None:
        """Set the slots before and behind the rows of each segment."""
        self._segments[:, 4:6] = slots


# --- the operations ------------------------------------------------------------------------------


def _conv(taps: int, has_bias: bool, act: str, width: int) -> Scan:
    w, bias = _random(taps, width), _random(width) if has_bias else None

    def twin(rows: Rows, state: Floats) -> tuple[Floats, Floats]:
        return reference_ssm.causal_conv(rows[0], w, bias, act, state.reshape(taps - 1, width))

    return Scan(
        "causal_conv", (taps, has_bias, act == "silu"), -(-width // 64), [_random(9, width)],
        width, (taps - 1) * width, twin, (w, bias), (width,),
    )  # fmt: skip


def _scan(heads: int, groups: int, width: int, size: int, *, full: bool) -> Scan:
    a, more = -abs(_random(heads)), _random(2, heads)
    d, shift = more if full else (None, None)
    rows: Rows = [_random(9, heads * width), *_random(2, 9, groups * size)]
    rows.append(_random(9, heads) if full else None)
    options: dict[str, Any] = dict(a=a, d=d, step_bias=shift, n_groups=groups)

    def twin(rows: Rows, state: Floats) -> tuple[Floats, Floats]:
        state = state.reshape(heads, size, width)
        return reference_ssm.ssm_scan(*rows, **options, state=state)

    constants = heads, groups, width, size, full, full, full
    return Scan(
        "ssm_scan", constants, heads * -(-width // 16), rows, heads * width, heads * size * width,
        twin, (a, d, shift),
    )  # fmt: skip


def _selective(width: int, size: int) -> Scan:
    a, d = -abs(_random(size, width)), _random(width)
    blocks, x = reference_ssm.in_blocks(a), _random(2, 9, width)

    def twin(rows: Rows, state: Floats) -> tuple[Floats, Floats]:
        state = reference_ssm.out_of_blocks(state.reshape(-1, size, 16), width)
        y, after = reference_ssm.selective_scan(*rows, a=a, d=d, state=state)
        return y, reference_ssm.in_blocks(after)

    rows: Rows = [x[0], *_random(2, 9, size), x[1]]
    return Scan(
        "selective_scan", (size,), -(-width // 64), rows, width, blocks.size, twin, (blocks, d),
        (width,),
    )  # fmt: skip


def _delta(heads: int, keys: int, dk: int, dv: int, *, tiled: bool, by_row: bool) -> Scan:
    decays, unit = 1 / (1 + abs(_random(9, heads * (dk if by_row else 1)))), np.float32(dk**-0.5)
    rows: Rows = [*unit * _random(2, 9, keys * dk), _random(9, heads * dv), decays]
    rows.append(_random(9, heads))

    def twin(rows: Rows, state: Floats) -> tuple[Floats, Floats]:
        state = state.reshape(heads, dk, dv)
        q, k, v, decay, beta = rows
        return reference_delta.delta_net(
            q, k, v, decay, beta, state, n_key_heads=keys, scale=0.3, tiled=tiled
        )

    constants = heads, keys, dk, dv, tiled, by_row
    return Scan(
        "delta_net", constants, heads * -(-dv // 16), rows, heads * dv, heads * dk * dv, twin,
        scale=(0.3,),
    )  # fmt: skip


def _wkv(form: int, heads: int, keys: int, dk: int, dv: int) -> Scan:
    r, w, erase, rate = _random(4, 9, heads * dk) * np.float32(dk**-0.5)
    rows: Rows = [r, _random(9, keys * dk), _random(9, keys * dv), 1 / (1 + abs(w))]
    rows += [erase, rate] if form == 2 else [None, None]
    name = ("before", "gated", "delta")[form]

    def twin(rows: Rows, state: Floats) -> tuple[Floats, Floats]:
        r, k, v, w, e, a = rows
        state = state.reshape(heads, dk, dv)
        return reference_wkv.wkv(r, k, v, w, state, form=name, n_key_heads=keys, erase=e, rate=a)

    return Scan(
        "wkv", (form, heads, keys, dk, dv), heads * -(-dv // 16), rows, heads * dv,
        heads * dk * dv, twin,
    )  # fmt: skip


CASES: dict[str, Callable[[], Scan]] = {
    "conv": partial(_conv, 4, True, "silu", 70),
    "conv of two": partial(_conv, 2, False, "", 3),
    "scan": partial(_scan, 2, 1, 32, 16, full=True),
    "plain scan": partial(_scan, 4, 2, 21, 10, full=False),
    "selective": partial(_selective, 72, 16),
    "selective of odd size": partial(_selective, 5, 3),
    "delta": partial(_delta, 2, 1, 32, 16, tiled=False, by_row=False),
    "tiled delta by row": partial(_delta, 6, 2, 22, 40, tiled=True, by_row=True),
    "delta by row": partial(_delta, 4, 2, 8, 32, tiled=False, by_row=True),
    "wkv before": partial(_wkv, 0, 2, 2, 16, 16),
    "wkv gated": partial(_wkv, 1, 4, 2, 10, 24),
    "wkv delta": partial(_wkv, 2, 2, 2, 16, 32),
}


@pytest.mark.parametrize("name", CASES)
def test_as_the_twin(name: str) -> None:
    CASES[name]().check()


def test_the_lowering_knows_the_columns_of_a_workgroup() -> None:
    assert STATE_COLUMNS == COLUMNS_OF_GROUP


@pytest.mark.parametrize(("has_factors", "has_shifts"), [(1, 0), (0, 1), (1, 1)])
def test_lerp(has_factors: int, has_shifts: int) -> None:
    n, m, width = 3, 3, 30
    a, b = _random(n, width), _random(2, n, width)[1]
    factors = _random(m, width) if has_factors else None
    shifts = _random(n, m * width) if has_shifts else None
    rows, y = [x if x is None else rows_of(x) for x in (a, b, shifts)], empty_rows(n, m * width)
    strides = [0 if x is None else x.shape[1] for x in (*rows, y)]
    arguments = [count(n), *rows, factors, y, *strides, width, m * width]
    launch("lerp", (has_factors, has_shifts), arguments, (-(-m * width // 64), n + 1))
    check(y, reference_wkv.lerp(a, b, factors, shifts), 1e-5, 1e-6)


def test_head_bonus() -> None:
    n, heads, dk, dv = 3, 2, 70, 50
    (x, v), (r, k) = _random(2, n, heads * dv), _random(2, n, heads * dk)
    factors, y = _random(heads * dk), empty_rows(n, heads * dv)
    rows = [rows_of(value) for value in (x, v, r, k)]
    strides = (value.shape[1] for value in (*rows, y))
    arguments = [count(n), *rows, factors, y, *strides, dk, dv]
    launch("head_bonus", (), arguments, (heads, n + 1))
    check(y, reference_wkv.head_bonus(x, v, r, k, factors, heads), 1e-5, 1e-4)
