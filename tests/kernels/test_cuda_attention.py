"""Attention on the simulated GPU against its twin; cells that no query sees are NaN."""

from typing import Any

import numpy as np
import pytest
from gpu_attention import Form, case
from gpu_rows import few

from jitllm.kernels.cache_types import NAMES

SINKS = np.array([0.5, -3.0, 20.0, 0.0], np.float32)
SLOPES = np.array([0.5, 0.01, 2.0, 0.0], np.float32)
TABLE = np.sin(np.arange(4 * 95, dtype=np.float32)).reshape(4, 95)
SEGMENTS = [(1, 70), (3, 0), (2, 126)]
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"window": 40},
    "window of 1": {"window": 1},
    "chunks": {"window": 70, "chunked": True},
    "cap": {"cap": 5.0, "scale": 1.0},
    "sinks": {"sinks": SINKS},
    "slopes": {"slopes": SLOPES, "window": 66},
    "table": {"table": TABLE},
    "both sides": {"causal": False},
    "near both sides": {"causal": False, "window": 31, "table": TABLE},
    "cross": {"cross": 67},
    "cross with table": {"cross": 3, "table": TABLE, "sinks": SINKS},
    "alone": {"alone": True, "causal": False, "kv": "f32"},
    "alone and near": {"alone": True, "causal": False, "window": 2, "kv": "f32"},
    "alone with slopes": {"alone": True, "slopes": SLOPES, "kv": "f32"},
}
FAST = (
    "plain", "window", "window of 1", "cap", "chunks", "near both sides", "cross with table",
    "alone with slopes",
)  # fmt: skip


@pytest.mark.parametrize("name", few([*FORMS], FAST))
def test_forms(name: str) -> None:
    form = Form(dk=20, dv=36, **FORMS[name])
    segments = [(n, 0) for n in (70, 1, 3)] if form.alone else SEGMENTS
    case(form, segments).check(1e-5, 3e-6)


@pytest.mark.parametrize(
    "kv", few([*NAMES, "q5_1/q8_0", "iq4_nl/bf16"], ["q5_1/q8_0", "iq4_nl/bf16"])
)
def test_types(kv: str) -> None:
    case(Form(kv=kv, dk=128, dv=64), [(2, 63), (1, 20)]).check(2e-5, 1e-5)


@pytest.mark.parametrize("sizes", few([(2, 1), (192, 128), (576, 512)], [(2, 1)]))
def test_head_sizes(sizes: tuple[int, int]) -> None:
    dk, dv = sizes
    case(Form(heads=1, group=3, dk=dk, dv=dv, scale=dk**-0.5), [(1, 65)]).check(1e-5, 5e-6)


@pytest.mark.parametrize("kind", few([(32, "q4_0"), (96, "q8_0"), (192, "q8_0")], [(192, "q8_0")]))
def test_rotations_of_other_sizes(kind: tuple[int, str]) -> None:
    dk, kv = kind
    case(Form(heads=1, group=1, dk=dk, dv=96, kv=kv), [(1, 10)]).check(2e-5, 1e-5)


def test_a_ring_of_pages() -> None:
    case(Form(dk=20, dv=36, window=30), [(2, 150)], ring=2).check(1e-5, 3e-6)


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    made = case(Form(dk=20, dv=36, cross=1, table=TABLE, sinks=SINKS), [(2, 0)])
    made.run.see(0)
    made.want[:] = 0
    made.check(0, 0)
