"""Tokens that GPU backends choose of the logits of a run, against the host's samplers."""

import numpy as np
import pytest
from driver import opens, simulate_cuda
from host_draw import NEAR, check, chosen, ends, with_number

from jitllm import backends
from jitllm.backends._gpu.program import GpuProgram
from jitllm.backends.base import Backend, Batch, Draw, Floats, Ints, Program, Segment, Weight
from jitllm.backends.ir import Graph, Node, Value
from jitllm.llm.sampling import SamplerChain, chain

CHAINS = (
    "top_k:40;top_p:0.95;min_p:0.05;temperature:0.8", "top_k:128;temperature:1.5", "greedy",
    "top_k:50;typical_p:0.7:3;min_p:0.1:5;temperature:1.3;top_p:0.8",
    "top_k:60;top_n_sigma:1;typical_p:0.9;temperature:2;min_p:0.2", "top_k:9;typical_p:0.5;greedy",
)  # fmt: skip


def _program(backend: Backend, table: Floats) -> Program:
    """What has the rows of a table as logits."""
    n = table.shape[1]
    x, rows, y = Value(0, "x", "T", n), Value(1, "rows", "O", n), Value(2, "y", "O", n)
    graph = Graph(
        (Node("embed", "x", (), (x,), ("table",)), Node("select_outputs", "rows", (x,), (rows,)),
         Node("scale", "y", (rows,), (y,), attrs={"factor": 1.0})), (), n,
    )  # fmt: skip
    backend.add_weight(Weight("table", "F32", table.shape, table.view(np.uint8).reshape(-1)))
    return backend.compile(graph, (), max_tokens=64, taps=frozenset())


def _batch(ids: list[int], wanted: list[int]) -> Batch:
    tokens, positions = np.array(ids, np.int32), np.zeros(len(ids), np.int32)
    segments = [Segment(i, 1, 0, ()) for i in range(len(ids))]
    return Batch(tokens, positions, np.array(wanted, np.int32), segments)


def _draws(chains: list[SamplerChain]) -> list[Draw]:
    """Return how each draws its next token, and let it go on."""
    found = [built.draw() for built in chains]
    for built in chains:
        built.drawn()
    return [draw for draw in found if draw]


def _near(row: Floats, draw: Draw) -> list[Draw]:
    """The same draw with numbers just below and above the ends of shares."""
    numbers = (ends(chosen(row, draw)[1])[:-1, None] + [-NEAR, NEAR]).reshape(-1)
    return [with_number(draw, float(number)) for number in numbers if number > 0]


@pytest.mark.parametrize("device", ["cuda", "metal", "vulkan"])
def test_draws(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    monkeypatch.setattr(GpuProgram, "most_best", 128)  # also where a processor does the work
    rng = np.random.default_rng(3)
    table = rng.normal(0, 3, (43, 700)).astype(np.float32)
    table[20:30] = np.round(table[20:30])
    table[30:35, 9:] = -np.inf
    table[40:42, 5] = np.nan, np.inf
    table[42] = -np.inf
    backend = backends.open_backend(device)
    program = _program(backend, table)
    n_others, n_drawn = 0, 0

    def draw(ids: list[int], draws: list[Draw]) -> Ints:
        nonlocal n_others, n_drawn
        tokens = program.draw(_batch(ids, list(range(len(ids)))), draws)
        n_others += check(table[ids], draws, tokens.tolist())
        n_drawn += len(ids)
        return tokens

    ids = list(range(40))
    chains = [chain(*CHAINS[i % 6].split(";"), seed=i) for i in ids]  # of each row another
    for _ in range(20):
        draw(ids, _draws(chains))
    assert n_others <= 1 and n_drawn == 800
    for i in (1, 3, 4):
        each = _near(table[i], _draws([chain(*CHAINS[i].split(";"))])[0])
        for start in range(0, len(each), 64):
            some = each[start : start + 64]
            want = [chosen(table[i], one)[0] for one in some]
            assert draw([i] * len(some), some).tolist() == want
    some = _draws(chains[:3])
    assert program.draw(_batch([40, 41, 42], [0, 1, 2]), some).tolist() == [-1] * 3
    assert program.draw(_batch([5, 40, 3, 2], [1, 3]), some[:2])[0] == -1
    backend.close()
