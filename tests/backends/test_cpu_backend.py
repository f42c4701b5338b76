"""The CPU backend: near the NumPy backend, the same bits whatever runs beside, nothing leaks."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from driver import Runner, nmse
from models import model_path
from quantized import quantized_copy
from variants import variant_model

from jitllm import backends
from jitllm.backends.base import BackendUnavailable, Batch, Segment, Weight
from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.kernels import formats

TOKENS = np.array([1, 20, 300, 45, 7, 99, 250, 301, 12, 400, 33, 8, 77], np.int32)
SPEC = CacheSpec(0, ((2, 4, 6), (1, 8, 8)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Model files by name; "name:type" is a copy with matrices of that type."""
    folder, made = tmp_path_factory.mktemp("models"), {"stories260K": model_path("stories260K")}

    def get(name: str) -> Path:
        if name not in made:
            base, _, kind = name.partition(":")
            path = folder / f"{name.replace(':', '-')}.gguf"
            made[name] = (
                quantized_copy(get(base), path, kind) if kind else variant_model(name, path)
            )
        return made[name]

    return get


def _logits(path: Path, device: str, precision: str, tokens: np.ndarray = TOKENS) -> np.ndarray:
    with Runner(path, device, precision) as runner:
        return runner.forward(tokens)


# Those that the gguf package can write down; tests/kernels has all.
QUANTIZED = [
    name for name in formats.names()
    if formats.get(name).planes and name in gguf.GGMLQuantizationType.__members__
]  # fmt: skip


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_trained_model_equals_the_reference(files: Callable[[str], Path], precision: str) -> None:
    for name in ("stories260K", "stories260K:Q8_0"):
        got = _logits(files(name), "cpu", precision)
        want = _logits(files(name), "reference", precision)
        # a last bit of a norm may turn the rounding of a quantized activation
        limit = 1e-10 if precision == "exact" else 1e-8 if name == "stories260K" else 1e-4
        assert nmse(got, want) < limit


@pytest.mark.parametrize("kind", QUANTIZED)
def test_every_quantized_type_in_a_model(files: Callable[[str], Path], kind: str) -> None:
    path, tokens = files(f"qwen3:{kind}"), TOKENS[:5] % 128
    exact = _logits(path, "cpu", "exact", tokens)
    assert nmse(exact, _logits(path, "reference", "exact", tokens)) < 1e-10
    assert 1e-10 < nmse(_logits(path, "cpu", "fast", tokens), exact) < 1e-2


@pytest.mark.parametrize("name", ["llama-routed:Q4_0", "llama-routed:Q5_1", "qwen3moe-routed:Q8_0"])
def test_quantized_experts(files: Callable[[str], Path], name: str) -> None:
    tokens = TOKENS % 128
    exact = _logits(files(name), "cpu", "exact", tokens)
    assert nmse(exact, _logits(files(name), "reference", "exact", tokens)) < 1e-9
    with Runner(files(name), "cpu", "fast") as runner:
        fast = runner.forward(tokens)
        single = [runner.forward(tokens[i : i + 1], i) for i in range(len(tokens))]
    assert 1e-10 < nmse(fast, exact) < 0.05
    assert np.array_equal(np.concatenate(single), fast)


@pytest.mark.parametrize("name", ["stories260K:Q8_0", "gemma3-windows", "llama-routed:Q4_0"])
def test_bits_do_not_depend_on_cuts_or_threads(files: Callable[[str], Path], name: str) -> None:
    tokens = np.random.default_rng(0).integers(0, 128, 150).astype(np.int32)
    results = []
    for n_threads, max_tokens in ((1, 150), (2, 64), (3, 17), (2, 1)):
        with Runner(files(name), "cpu", "fast", "f16", n_threads, max_tokens=max_tokens) as runner:
            results.append(runner.forward(tokens))
    for other in results[1:]:
        assert np.array_equal(results[0], other)


def test_sequences_in_one_batch_have_the_bits_of_each_alone(
    files: Callable[[str], Path],
) -> None:
    tokens = np.random.default_rng(1).integers(0, 500, 90).astype(np.int32)
    with Runner(files("stories260K:Q8_0"), "cpu", "fast", "f16", 2) as runner:
        lengths, pasts = (40, 1, 49), (0, 65, 3)
        tables = [[np.array(t, np.int32)] for t in ([3], [1, 2], [0])]
        alone, segments, rows, start = [], [], [], 0
        for length, past, table in zip(lengths, pasts, tables, strict=True):
            part = tokens[start : start + length]
            runner.tables = table
            if past:
                runner.forward(tokens[::-1][:past])
            alone.append(runner.forward(part, past))
            segments.append(Segment(start, length, past, table))
            rows.append(np.arange(past, past + length))
            start += length
        runner.program = runner.backend.compile(
            runner.graph, runner.pools, max_tokens=90, taps=frozenset()
        )
        outputs = np.array([0, 39, 40, 41, 89], np.int32)
        positions = np.concatenate(rows).astype(np.int32)
        got = runner.program.run(Batch(tokens, positions, outputs, segments))
    assert np.array_equal(got, np.concatenate(alone)[outputs])


def _all_taps(path: Path) -> list[str]:
    with Runner(path, "reference") as runner:
        return list(runner.graph.values())


@pytest.mark.parametrize("name", ["stories260K", "gemma3-windows", "qwen3moe-routed"])
def test_every_value_tapped_gives_the_same_bits(files: Callable[[str], Path], name: str) -> None:
    taps, tokens = _all_taps(files(name)), TOKENS % 128
    seen: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    with Runner(files(name), "cpu", n_threads=2) as runner:
        plain = runner.forward(tokens)
    with Runner(files(name), "cpu", n_threads=2, taps=taps) as runner:
        assert np.array_equal(runner.forward(tokens), plain)
        tapped = runner.forward(tokens, tap=lambda n, rows: seen.update({n: rows.copy()}))
    with Runner(files(name), "reference", taps=taps) as runner:
        runner.forward(tokens, tap=lambda n, rows: expected.update({n: rows.copy()}))
    assert np.array_equal(tapped, plain)
    assert list(seen) == list(expected) == taps
    for tap in taps:
        assert seen[tap].shape == expected[tap].shape
        assert nmse(seen[tap], expected[tap]) < 1e-9, tap


def test_what_a_tap_writes_is_used(files: Callable[[str], Path]) -> None:
    def double(name: str, rows: Any) -> None:
        rows[2:] *= 2

    results = []
    for device in ("cpu", "reference"):
        with Runner(files("stories260K"), device, taps=["blk.1.ffn_out", "token_embd"]) as runner:
            results.append((runner.forward(TOKENS), runner.forward(TOKENS, tap=double)))
    (plain, changed), (_, expected) = results
    assert np.array_equal(plain[:2], changed[:2])
    assert nmse(changed, plain) > 1e-3
    assert nmse(changed, expected) < 1e-10


@pytest.mark.parametrize("name", ["stories260K", "gemma3-windows"])
def test_patterns_equal_the_reference(files: Callable[[str], Path], name: str) -> None:
    tokens = np.random.default_rng(2).integers(0, 128, 80).astype(np.int32)
    patterns: list[dict[str, np.ndarray]] = []
    logits = []

    def halve(name: str, pattern: Any) -> None:
        patterns[-1][name] = pattern.copy()
        pattern[:, 3:] *= 0.5

    for device in ("cpu", "reference"):
        patterns.append({})
        taps = ["blk.0.kqv_out.pattern", "blk.1.kqv_out.pattern"]
        with Runner(files(name), device, taps=taps) as runner:
            runner.forward(tokens[:70])
            logits.append(runner.forward(tokens[70:], 70, tap=halve))
    for tap, pattern in patterns[1].items():
        np.testing.assert_allclose(patterns[0][tap], pattern, rtol=1e-4, atol=1e-7)
    assert nmse(logits[0], logits[1]) < 1e-9


def test_results_belong_to_the_caller(files: Callable[[str], Path]) -> None:
    with Runner(files("stories260K"), "cpu") as runner:
        first = runner.forward(TOKENS)
        kept = first.copy()
        runner.forward(TOKENS[::-1])
        assert np.array_equal(first, kept)
        first[:] = 0
        assert np.array_equal(runner.forward(TOKENS), kept)
    assert not first.any()  # still there after close


def test_memory_that_was_never_written_is_not_read(files: Callable[[str], Path]) -> None:
    for name in ("stories260K:Q8_0", "llama-routed:Q4_0"):
        with Runner(files(name), "cpu", "fast") as runner:
            plain = runner.forward(TOKENS % 128)
            runner.program._plan.memory[:] = 0xFF  # type: ignore[attr-defined]
            assert np.array_equal(runner.forward(TOKENS % 128), plain)


def _batch(runner: Runner, tokens: np.ndarray) -> Batch:
    rows = np.arange(len(tokens), dtype=np.int32)
    return Batch(tokens, rows, rows, [Segment(0, len(tokens), 0, runner.tables)])


def test_bad_input_raises(files: Callable[[str], Path]) -> None:
    with Runner(files("stories260K"), "cpu", max_tokens=4) as runner:
        run, vocab = runner.program.run, runner.graph.vocab_size
        for n in (0, 5):
            with pytest.raises(ValueError, match=f"expected 1 to 4 tokens, got {n}"):
                run(_batch(runner, TOKENS[:n]))
        for bad in (-1, vocab, 2**31 - 1):
            with pytest.raises(ValueError, match=f"token ids must be from 0 to {vocab - 1}"):
                run(_batch(runner, np.array([1, bad], np.int32)))
        assert np.isfinite(run(_batch(runner, TOKENS[:4]))).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="precision must be one of"):
        backends.open_backend("cpu", precision="double")
    with pytest.raises(TypeError, match="n_gpu_layers"):
        backends.open_backend("cpu", n_gpu_layers=3)
    with pytest.raises(ValueError, match="n_threads must be from 1"):
        backends.open_backend("cpu", n_threads=0)
    backend = backends.open_backend("cpu", n_threads=1)
    with pytest.raises(ValueError, match="q8_0 needs heads of a multiple of 32"):
        backend.new_pool(SPEC, 1, "q8_0")
    with pytest.raises(BackendUnavailable, match="'w' has type I32"):
        backend.add_weight(Weight("w", "I32", (4,), np.zeros(16, np.uint8)))
    value = Value(0, "x", "O", 4)
    graph = Graph((Node("magic", "x", (), (value,)),), (), 4)
    with pytest.raises(BackendUnavailable, match="no operation 'magic'"):
        backend.compile(graph, [], max_tokens=1, taps=frozenset())
    with pytest.raises(ValueError, match=r"no such hook points.*nothing"):
        backend.compile(graph, [], max_tokens=1, taps=frozenset({"nothing"}))
    with pytest.raises(ValueError, match="expected pools"):
        backend.compile(graph, [backend.new_pool(SPEC, 1, "f32")], max_tokens=1, taps=frozenset())
    backend.close()


@pytest.mark.parametrize(("kv_dtype", "size"), [("f16", 2), ("f32", 4)])
def test_pool_keeps_pages(kv_dtype: str, size: int) -> None:
    backend = backends.open_backend("cpu", n_threads=1)
    pool = backend.new_pool(SPEC, 3, kv_dtype)
    assert pool.page_bytes == 64 * (2 * (4 + 6) + 8 + 8) * size
    rng = np.random.default_rng(1)
    keys = rng.integers(-9, 9, (64, 8)).astype(np.float32)
    values = rng.integers(-9, 9, (64, 12)).astype(np.float32)
    pool.write(0, 1, keys, values)
    pool.copy_page(1, 2)
    for page in (1, 2):
        got = pool.read(0, page)
        np.testing.assert_array_equal(got[0], keys)
        np.testing.assert_array_equal(got[1], values)
    assert not pool.read(0, 0)[0].any() and not pool.read(1, 2)[0].any()
    assert 0 <= backend.memory()["caches"] - 3 * pool.page_bytes < 4096  # rounded up
    backend.close()
    assert backend.memory() == {"weights": 0, "caches": 0, "buffers": 0}


def test_memory_counts_what_is_held(files: Callable[[str], Path]) -> None:
    with Runner(files("stories260K"), "cpu", n_ctx=256) as runner:
        memory = runner.backend.memory()
        file_bytes = files("stories260K").stat().st_size
        assert 0.8 * file_bytes < memory["weights"] < 1.2 * file_bytes
        pages = 4 * sum(pool.page_bytes for pool in runner.pools)
        assert 0 <= memory["caches"] - pages < 4096  # rounded up
        assert memory["buffers"] >= 4 * 64 * runner.graph.vocab_size / 8
        runner.program.close()
        assert runner.backend.memory()["buffers"] == 0
    assert runner.backend.memory() == {"weights": 0, "caches": 0, "buffers": 0}


def test_weights_are_copied_and_released() -> None:
    backend, released = backends.open_backend("cpu", n_threads=1), []
    data = np.arange(16, dtype=np.float32)
    vector, matrix = data.view(np.uint8).copy(), data.view(np.uint8).copy()
    backend.add_weight(Weight("v", "F32", (16,), vector, lambda: released.append("v")))
    backend.add_weight(Weight("m", "F32", (4, 4), matrix, lambda: released.append("m")))
    assert released == ["v", "m"]
    x = Value(0, "x", "O", 4)
    graph = Graph((Node("embed", "x", (), (x,), ("m",)),), (), 4)
    program = backend.compile(graph, [], max_tokens=4, taps=frozenset())
    matrix[:] = 0
    ids = np.array([2, 0], np.int32)
    np.testing.assert_array_equal(program.run(Batch(ids, ids, ids, [])), data.reshape(4, 4)[[2, 0]])
    backend.close()


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_close_gives_memory_back(files: Callable[[str], Path]) -> None:
    def once() -> int:
        with Runner(files("stories260K"), "cpu", n_threads=2, n_ctx=2048) as runner:
            runner.forward(TOKENS)
        gc.collect()
        return _resident_bytes()

    for _ in range(4):
        once()  # allocators and caches fill
    before = once()
    after = [once() for _ in range(20)]
    assert min(after[-3:]) - before < 1 << 20  # one model takes several MiB
