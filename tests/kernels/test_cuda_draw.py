"""Tokens chosen on the simulated GPU, against the host's samplers."""

from collections.abc import Sequence

import numpy as np
import pytest
from gpu_launch import launch
from gpu_rows import count
from host_draw import NEAR, check, chosen, ends, with_number

from jitllm.backends._gpu.draw import DRAW_BYTES, words_of
from jitllm.backends.base import Draw, Floats, Ints
from jitllm.llm.sampling import chain

CHAINS = (
    "top_k:40;top_p:0.95;min_p:0.05;temperature:0.8", "top_k:1", "top_k:128", "top_k:7;greedy",
    "top_k:100;temperature:1.7;top_p:0.6:9;min_p:0.3:11", "top_k:50;typical_p:0.5;top_p:0.8",
    "top_k:128;typical_p:0.9:4;min_p:0.02;top_k:5", "top_k:60;typical_p:0.8;min_p:0.5:9;greedy",
    "top_k:64;top_n_sigma:0.7;temperature:2.5", "greedy",
)  # fmt: skip


def _draws(text: str, seeds: Sequence[int]) -> list[Draw]:
    found = [chain(*text.split(";"), seed=seed).draw() for seed in seeds]
    return [draw for draw in found if draw]


def _logits(n: int, width: int, kind: int) -> Floats:
    """Random logits: far apart, near each other, with equal ones, or mostly impossible."""
    rng = np.random.default_rng(1000 * kind + width)
    x = rng.normal(0, (4, 0.3, 3, 2)[kind], (n, width)).astype(np.float32)
    if kind == 2:
        x = np.round(x)
    if kind == 3:
        x[rng.random(x.shape) > 30 / width] = -np.inf
    return x


def _launch(x: Floats, draws: Sequence[Draw], k: int = 128) -> Ints:
    n, width = x.shape
    order = np.lexsort((-np.where(np.isnan(x), 0, x), ~np.isnan(x)))[:, :k].astype(np.int32)
    found = np.full((n, 2, k), -1, np.int32)
    found[:, 0, :width], found[:, 1] = order, np.float32(-np.inf).view(np.int32)
    found[:, 1, :width] = np.take_along_axis(x, order, 1).view(np.int32)
    drawn = np.full(n + 1, -7, np.int32)
    arguments = [count(n), found, words_of(draws), drawn, k, width, DRAW_BYTES]
    launch("draw", (), arguments, (1, n + 1))
    assert drawn[n] == -7
    return drawn[:n]


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("text", CHAINS)
def test_chains(text: str, n: int) -> None:
    n_others = 0
    for kind in range(4):
        x, draws = _logits(n, 500, kind), _draws(text, range(n * kind, n * kind + n))
        n_others += check(x, draws, _launch(x, draws).tolist())
    assert n_others <= 1  # of thousands: numbers are seldom so near


@pytest.mark.parametrize("text", [t for t in CHAINS if not t.endswith("greedy")])
def test_next_to_the_ends_of_shares(text: str) -> None:
    """Random numbers just below and above them give one candidate and the next."""
    (draw,) = _draws(text, [0])
    for kind in (0, 1, 3):
        (row,) = _logits(1, 300, kind)
        shares = ends(chosen(row, draw)[1])
        numbers = (shares[:-1, None] + [-NEAR, NEAR]).reshape(-1)
        draws = [with_number(draw, float(x)) for x in (0.0, *numbers[numbers > 0], 1 - 1e-16)]
        ids = _launch(np.tile(row, (len(draws), 1)), draws)
        assert ids.tolist() == [chosen(row, each)[0] for each in draws]


def test_rows_of_different_chains_and_few_tokens() -> None:
    draws = [draw for text in CHAINS for draw in _draws(text, range(9))]
    for width in (3, 128, 1000):
        x = _logits(len(draws), width, 0)
        assert check(x, draws, _launch(x, draws).tolist()) == 0
    few = [draw for draw in draws if draw.n <= 64]
    x = _logits(len(few), 1000, 0)
    assert check(x, few, _launch(x, few, 64).tolist()) == 0


def test_no_token_where_no_logit_is_usable() -> None:
    x = _logits(6, 200, 0)
    x[0, 3], x[1, 3], x[2], x[3, 3] = np.nan, np.inf, -np.inf, -np.inf
    for text in ("greedy", CHAINS[0]):
        ids = _launch(x, _draws(text, range(6)))
        assert ids[:3].tolist() == [-1] * 3 and (ids[3:] >= 0).all()
    ids = _launch(x[4:] * 1e20, _draws("top_k:9;temperature:1e-25", range(2)))
    assert ids.tolist() == [-1] * 2
