"""Attention on simulated tensor cores against its twin: queries and weights are float16 there."""

from typing import Any

import numpy as np
import pytest
from gpu_attention import Case, Form, case
from gpu_launch import launch
from gpu_products import poisoned, quantize
from gpu_rows import check, empty_rows, few

from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import NAMES
from jitllm.kernels.cuda import _layout

SINKS = np.array([0.5, -3.0, 20.0, 0.0], np.float32)
SLOPES = np.array([0.5, 0.01, 2.0, 0.0], np.float32)
TABLE = np.sin(np.arange(4 * 95, dtype=np.float32)).reshape(4, 95)
SEGMENTS = [(1, 70), (9, 0), (2, 200), (7, 60)]
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sinks in a window": {"window": 40, "sinks": SINKS},
    "near both sides": {"causal": False, "window": 31, "table": TABLE},
}
MORE_FORMS: dict[str, dict[str, Any]] = {
    "chunks": {"window": 70, "chunked": True},
    "cap": {"cap": 5.0},
    "slopes": {"slopes": SLOPES, "window": 66},
    "cross": {"cross": 67, "sinks": SINKS},
}


def _rotate(form: Form, size: int, made: Case, x: np.ndarray, width: int) -> None:
    if size:
        arguments = [made.run.head, x, x, x.shape[1], x.shape[1]]
        launch("rotate_heads", (width, size), arguments, (form.n_heads, len(x)))


def _check(made: Case, parts: int) -> None:
    form, (n, width) = made.form, made.want.shape
    keys, values = cache_types.rows_of(form.kv, (form.heads, form.dk, form.dv))
    q, y = made.q.copy(), empty_rows(n, width)
    _rotate(form, keys.hadamard, made, q, form.dk)
    constants = *form.constants(), form.group, parts, int(form.cap > 0)
    blocks = form.heads * int(np.prod(_layout.blocks_of(form.group, form.dv)))
    tokens = _layout.tokens_of_tile(form.group)
    if parts == 1:
        rows = -(-n // (4 * tokens))
        launch("attention_tile", constants, made.arguments(q, y, y.shape[1]), (blocks, rows + 1))
    else:
        record = form.dv + _layout.RECORD
        partial = np.full((n, form.n_heads, parts, record), np.nan, np.float32)
        ldp = partial[0].size
        grid = blocks * parts // 4, -(-n // tokens) + 1
        launch("attention_tile", constants, made.arguments(q, partial, ldp), grid)
        rounds = int(form.dv % 32 == 0)
        codes = poisoned(n * width // 32 * 40)
        arguments = [made.run.head, partial, y, form.sinks, codes, ldp, y.shape[1], width]
        constants = form.dv, parts, int(form.sinks is not None), rounds
        launch("attention_merge", constants, arguments, (form.n_heads, n + 1))
        if rounds:
            np.testing.assert_array_equal(codes, quantize(np.ascontiguousarray(y[:n, :width])))
    _rotate(form, values.hadamard, made, y, form.dv)
    check(y, made.want, 2e-3, 2e-3 * form.magnitude)
    error = y[:n, :width] - made.want
    assert np.mean(error**2) < 1e-6 * np.mean(made.want**2)


@pytest.mark.parametrize(("name", "parts"), [*zip(FORMS, (8, 4, 1), strict=True)])
def test_forms(name: str, parts: int) -> None:
    _check(case(Form(**FORMS[name]), SEGMENTS), parts)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 8])
@pytest.mark.parametrize("name", FORMS | MORE_FORMS)
def test_more_forms(name: str, parts: int) -> None:
    _check(case(Form(**(FORMS | MORE_FORMS)[name]), SEGMENTS), parts)


@pytest.mark.slow
@pytest.mark.parametrize("kv", NAMES)
def test_types(kv: str) -> None:
    _check(case(Form(kv=kv), [(3, 130)]), 1)


def test_types_of_heads_that_fill_no_tile() -> None:
    _check(case(Form(group=7, dv=96, kv="q5_1/q8_0"), [(5, 62), (1, 128)]), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "group", "dk", "dv"),
    [(1, 1, 80, 80), (2, 7, 64, 96), (1, 16, 128, 128), (1, 5, 256, 256), (1, 20, 192, 128)],
)
def test_sizes(heads: int, group: int, dk: int, dv: int) -> None:
    form = Form(heads=heads, group=group, dk=dk, dv=dv, scale=dk**-0.5)
    _check(case(form, [(5, 62), (1, 128)]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 4])
def test_latent_attention(parts: int) -> None:
    form = Form(heads=1, group=18, dk=576, dv=512, scale=576**-0.5)
    _check(case(form, [(1, 150)]), parts)


@pytest.mark.parametrize("window", few([0, 20], [20]))
def test_rows_without_a_cache(window: int) -> None:
    form = Form(alone=True, causal=False, kv="f32", window=window, dk=32, dv=72)
    _check(case(form, [(70, 0), (1, 0), (9, 0)]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("kv", ["bf16", "f32"])
def test_numbers_beyond_float16(kv: str) -> None:
    form = Form(kv=kv, magnitude=5e4, largest=65504)
    _check(case(form, [(3, 130)]), 1)


def test_parts_of_a_long_text() -> None:
    _check(case(Form(), [(1, 1500)]), 8)
