"""Plans: memory that is used twice is never used at once, and threads meet where they must."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized import quantized_copy
from variants import variant_model

from jitllm import backends
from jitllm.backends._cpu.plan import LINE, Arena, Buffer, Planner
from jitllm.backends.base import Backend, Batch, Weight
from jitllm.backends.ir import Graph, Node, Value
from jitllm.kernels import abi

NOTHING = abi.Op("none", "none", ())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.integers(0)), max_size=60))
def test_arena_never_gives_bytes_twice(steps: list[tuple[bool, int, int]]) -> None:
    arena, live = Arena(), [(-LINE, LINE)]
    for take, size, which in steps:
        if take or len(live) == 1:
            start = arena.take(size)
            assert start % LINE == 0
            live.append((start, size))
            for (a, room), (b, _) in pairwise(sorted(live)):
                assert a + room <= b
            assert max(a + room for a, room in live) <= arena.size
        else:
            arena.give(*live.pop(1 + which % (len(live) - 1)))
    for start, size in live[1:]:
        arena.give(start, size)
    whole = arena.size
    assert arena.take(whole) == 0 and arena.size == whole  # all pieces are one again


SPANS = st.lists(
    st.tuples(st.sampled_from(["", "cache"]), st.integers(0, 12), st.integers(1, 4)).map(
        lambda t: (t[0], t[1], t[1] + t[2])
    ),
    max_size=3,
)


def _conflict(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    """Whether one of two ops (reads, writes) writes a cell that the other touches."""

    def cells(spans: Any) -> set[tuple[str, int]]:
        return {(space, i) for space, start, end in spans for i in range(start, end)}

    (reads_a, writes_a), (reads_b, writes_b) = ((cells(r), cells(w)) for r, w in (a, b))
    return bool(writes_a & (reads_b | writes_b) or reads_a & writes_b)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(SPANS, SPANS), max_size=12))
def test_a_barrier_stands_where_the_simple_rule_wants_it(ops: list[tuple[Any, Any]]) -> None:
    """An op starts a new group if it conflicts with any op of the group before it."""
    planner = Planner(0)
    for reads, writes in ops:
        planner.emit(NOTHING, reads, writes, cost=1)
    barriers = [op.barrier for op in planner.ops]
    group: list[tuple[Any, Any]] = []
    for i, op in enumerate(ops):
        starts = any(_conflict(op, other) for other in group)
        if i:
            assert barriers[i - 1] == starts
        group = [op] if starts else [*group, op]
    for i, first in enumerate(ops):
        for j in range(i + 1, len(ops)):
            if _conflict(first, ops[j]):
                assert any(barriers[i:j])


def test_buffers_of_the_arena_are_compared_by_bytes() -> None:
    planner = Planner(0)
    a, b, c = Buffer(0, 64, 128), Buffer(128, 64, 64), Buffer(127, 64, 2)
    for reads, writes in (([], [a]), ([], [b]), ([c], []), ([a], [])):
        planner.emit(NOTHING, reads, writes, cost=1)  # type: ignore[arg-type]
    assert [op.barrier for op in planner.ops[:-1]] == [False, True, False]


WIDTH, VOCAB = 32, 20


@st.composite
def graphs(draw: Any) -> tuple[Graph, list[str]]:
    """A random graph of exact operations on whole numbers, and some of its values to tap."""
    values = [Value(0, "start", "T", WIDTH)]
    nodes = [Node("embed", "start", (), (values[0],), ("table",))]

    def emit(op: str, inputs: tuple[Value, ...], width: int = WIDTH, **more: Any) -> Value:
        out = Value(len(values), f"v{len(values)}", inputs[0].rows, width)
        if op == "select_outputs":
            out = Value(out.id, out.name, "O", width)
        nodes.append(Node(op, out.name, inputs, (out,), **more))
        values.append(out)
        return out

    for _ in range(draw(st.integers(0, 14))):
        wide = [v for v in values if v.width == WIDTH]
        a, b = draw(st.sampled_from(wide)), draw(st.sampled_from(wide))
        kind = draw(st.sampled_from(["add", "matmul", "matmul-add", "scale", "columns"]))
        if kind == "add":
            emit("add", (a, b))
        elif kind.startswith("matmul"):
            product = emit("matmul", (a,), weights=("turn", ""))
            if kind == "matmul-add":
                emit("add", (product, b) if draw(st.booleans()) else (b, product))
        elif kind == "scale":
            emit("scale", (a,), attrs={"factor": -1.0})
        else:
            double = emit("matmul", (a,), 2 * WIDTH, weights=("both", ""))
            start = draw(st.sampled_from([0, WIDTH]))
            attrs = {"start": start, "stop": start + WIDTH}
            emit("columns", (double,), attrs=attrs)
    last = draw(st.sampled_from([v for v in values if v.width == WIDTH]))
    emit("matmul", (emit("select_outputs", (last,)),), weights=("turn", ""))
    taps = draw(st.lists(st.sampled_from([v.name for v in values[:-1]]), max_size=3))
    return Graph(tuple(nodes), (), WIDTH), taps


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    eye = np.eye(WIDTH, dtype=np.float32)
    return {
        "table": rng.integers(-9, 10, (VOCAB, WIDTH)).astype(np.float32),
        "turn": eye[rng.permutation(WIDTH)] * rng.choice([-1, 1], WIDTH).astype(np.float32),
        "both": np.concatenate([eye[::-1], -eye]),
    }


def _open(device: str, **options: Any) -> Backend:
    backend = backends.open_backend(device, **options)
    for name, values in _weights().items():
        values = np.ascontiguousarray(values, np.float32)
        backend.add_weight(Weight(name, "F32", values.shape, values.view(np.uint8).reshape(-1)))
    return backend


@pytest.fixture(scope="module")
def devices() -> Any:
    """The reference backend, and the CPU with three threads."""
    opened = _open("reference"), _open("cpu", n_threads=3)
    yield opened
    for backend in opened:
        backend.close()


@settings(max_examples=120, deadline=None)
@given(case=graphs(), n_tokens=st.integers(1, 9), seed=st.integers(0, 1000))
def test_random_graphs_equal_the_reference(
    devices: Any, case: tuple[Graph, list[str]], n_tokens: int, seed: int
) -> None:
    """Fused additions, shared memory, views and missing barriers would all show."""
    graph, taps = case
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, n_tokens).astype(np.int32)
    positions = np.arange(n_tokens, dtype=np.int32)
    outputs = np.flatnonzero(rng.integers(0, 2, n_tokens)).astype(np.int32)
    batch = Batch(tokens, positions, outputs, [])
    results = []
    for backend in devices:
        program = backend.compile(graph, [], max_tokens=9, taps=frozenset(taps))
        if hasattr(program, "_plan"):
            program._plan.memory[:] = 0xFF  # what is read before it is written is NaN
        seen: list[Any] = []

        def tap(name: str, rows: Any, seen: list[Any] = seen) -> None:
            seen.append((name, rows.copy()))
            rows += 1

        results.append((program.run(batch), program.run(batch, tap), seen))
        program.close()
    (plain, changed, saw), (cpu_plain, cpu_changed, cpu_saw) = results
    np.testing.assert_array_equal(cpu_plain, plain)
    np.testing.assert_array_equal(cpu_changed, changed)
    assert [name for name, _ in cpu_saw] == [name for name, _ in saw]
    for (_, got), (_, want) in zip(cpu_saw, saw, strict=True):
        np.testing.assert_array_equal(got, want)


WRITTEN = {"y", "out"}
WRITTEN_BY = {
    "top_k_experts": {"ids", "weights"},
    "route": {"index", "tile_experts", "slot_of"},
}


def _touched(op: abi.Op, block: Any, memory: Any, rows: int) -> tuple[Any, Any]:
    """Return (reads, writes) of an op in bytes of the arena, from its argument block alone."""
    names = [name.partition(":")[0] for name in op.fields]
    values = dict(zip(names, map(int, block[1:]), strict=True))
    base = memory.ctypes.data
    reads: list[Any] = []
    writes: list[Any] = []
    for name, at in values.items():
        if not base <= at < base + memory.nbytes or name == "scratch":
            continue  # no address, memory of the weights, or each thread's own
        stride = values.get(f"ld{name[0]}", 0)
        span = (at, at + max(1, stride * rows))
        (writes if name in WRITTEN_BY.get(op.function, WRITTEN) else reads).append(span)
    return reads, writes


def _overlap(a: Any, b: Any) -> bool:
    return any(x[0] < y[1] and y[0] < x[1] for x in a for y in b)


@pytest.mark.parametrize("name", ["gemma3-windows", "phi3-long-fused", "llama-routed:Q4_0"])
def test_plans_of_models_have_the_barriers_they_need(tmp_path: Path, name: str) -> None:
    """What an op touches is read from its arguments here, not from what the plan was told."""
    base, _, kind = name.partition(":")
    path = variant_model(base, tmp_path / "model.gguf")
    path = quantized_copy(path, tmp_path / "quantized.gguf", kind) if kind else path
    with Runner(path, "cpu", "fast", max_tokens=8, n_threads=2) as runner:
        plan: Any = runner.program._plan  # type: ignore[attr-defined]
        touched = [_touched(op.kernel[0], op.block, plan.memory, 8) for op in plan.ops]
        conflicts = 0
        for j, (reads, writes) in enumerate(touched):
            for i in range(j - 1, -1, -1):
                before_reads, before_writes = touched[i]
                if _overlap(writes, [*before_reads, *before_writes]) or _overlap(
                    reads, before_writes
                ):
                    conflicts += 1
                    assert any(op.barrier for op in plan.ops[i:j]), (i, j)
        assert conflicts > len(plan.ops)
        assert not all(op.barrier for op in plan.ops)  # and not more than needed everywhere
