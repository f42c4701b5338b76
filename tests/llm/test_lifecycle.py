"""Loading, closing, loading again; memory that runs out on the way, devices that fail in a run."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import opens
from faults import faults
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model
from variants.nextn import nextn_model

import jitllm
from jitllm.backends import reference
from jitllm.llm.errors import BackendError, ClosedError, JitllmError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.nextn import NextnBlock

STORIES = model_path("stories260K")
TOKENS = [1, *range(3, 60)]
HERE = pytest.mark.skipif(not opens("vulkan"), reason="no Vulkan loader or device here")
PLACES = [
    pytest.param({"device": "cpu"}, id="cpu"),
    pytest.param({"device": "reference"}, id="reference"),
    pytest.param({"device": ["reference:0", "reference:1"], "overrides": {"ffn": "cpu"}}, id="two"),
    pytest.param({"device": "vulkan"}, id="vulkan", marks=HERE),
    pytest.param(
        {"device": ["reference", "vulkan"], "n_gpu_layers": 4, "offload_kv": False},
        id="all", marks=HERE,
    ),
    pytest.param({"device": "cuda", "n_gpu_layers": 3}, id="cuda"),
]  # fmt: skip
ON_DEVICES = PLACES[3:]
Places = dict[str, Any]


@pytest.fixture(autouse=True)
def _simulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CUDA be the simulator, where kernels can be simulated."""
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    if "cuda" in request.node.name and not opens("cuda"):
        pytest.skip("kernels cannot be simulated here")


def load(path: Path = STORIES, **options: Any) -> jitllm.Model:
    """Load a model with a small cache."""
    common: dict[str, Any] = {"n_ctx": 128, "n_threads": 2, "cache_bytes": 3_000_000}
    return jitllm.load(path, progress=False, **common, **options)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _fails(places: Places, at: int, path: Path) -> bool:
    """Whether a load fails whose allocation number `at` does; nothing may be left of it."""
    n_threads = threading.active_count()
    with faults(at) as found:
        try:
            load(path, **places).close()
            has_failed = False
        except BackendError as error:
            has_failed = True
            assert "memory" in str(error) or " device " in str(error)
        assert (found.alive, found.handles) == (0, 0), at
    assert threading.active_count() == n_threads
    return has_failed


def _count(places: Places, path: Path) -> int:
    with faults() as found:
        load(path, **places).close()
        assert (found.alive, found.handles) == (0, 0)
        return found.count


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with caches and states."""
    return conformance_model("jamba-dense", tmp_path_factory.mktemp("life") / "model.gguf")


@pytest.mark.parametrize("places", PLACES)
def test_memory_that_runs_out_leaves_nothing(places: Places) -> None:
    n = _count(places, STORIES)
    assert n > 50
    points = sorted({0, *range(1, n, max(1, n // 7)), n - 20, n - 8, n - 2})
    assert sum(_fails(places, at, STORIES) for at in points) > len(points) // 2
    with load(**places) as model, load() as other:
        tokens = TOKENS[:9]
        np.testing.assert_allclose(model.forward(tokens), other.forward(tokens), atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("places", PLACES)
def test_memory_that_runs_out_anywhere(places: Places) -> None:
    n = _count(places, STORIES)
    assert sum(_fails(places, at, STORIES) for at in range(n)) > n * 3 // 4


@pytest.mark.parametrize("places", PLACES[:3])
def test_memory_of_states_that_runs_out(places: Places, hybrid: Path) -> None:
    n = _count(places, hybrid)
    assert sum(_fails(places, at, hybrid) for at in range(n - 24, n, 4)) > 1


def test_the_system_has_no_memory() -> None:
    with pytest.raises(BackendError, match="bytes in one piece: .*use a smaller model"):
        jitllm.load(STORIES, n_ctx=128, cache_bytes=1 << 50, progress=False)


def _at(sequence: jitllm.Sequence, n: int) -> NDArray[np.float32]:
    assert sequence.token_ids == TOKENS[:n]
    return sequence.logits.copy()


@pytest.mark.parametrize("places", ON_DEVICES)
@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_a_device_that_fails_once(places: Places, at: int) -> None:
    with load(**places) as model, model.sequence(TOKENS[:40]) as sequence:
        _at(sequence, 40)
        with model.sequence(TOKENS[:41]) as other:
            expected = _at(other, 41)
        with faults(at, in_runs=True), pytest.raises(BackendError, match="(Vulkan|CUDA) device"):
            sequence.append(TOKENS[40:41])
        assert sequence.token_ids == TOKENS[:40]
        np.testing.assert_allclose(_at(sequence.append(TOKENS[40:41]), 41), expected, atol=1e-3)


@pytest.mark.parametrize("places", ON_DEVICES)
def test_a_device_that_is_lost(places: Places, tmp_path: Path) -> None:
    with faults() as found:
        model = load(**places)
        sequence = model.sequence(TOKENS[:40])
        _at(sequence, 40)
        with faults(2, in_runs=True) as run:
            run.is_lost = True
            for _ in range(3):
                with pytest.raises(BackendError, match="(Vulkan|CUDA) device"):
                    sequence.append(TOKENS[40:41])
                assert sequence.token_ids == TOKENS[:40]
            model.close()
        assert found.handles == 0
    with pytest.raises(ClosedError):
        model.sequence()
    assert sequence.token_ids == TOKENS[:40]


@pytest.mark.parametrize("places", [PLACES[1], PLACES[2]])
def test_a_run_that_fails_leaves_tokens_as_they_were(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(**places) as model, model.sequence(TOKENS[:20]) as sequence:
        before, twin = _at(sequence, 20), sequence.fork()
        expected = _at(sequence.append(TOKENS[20:30]), 30)
        for error in (MemoryError("no room"), KeyboardInterrupt()):

            def fail(x: Any, error: BaseException = error) -> Any:
                raise error

            with monkeypatch.context() as patch:
                patch.setitem(reference._OPS, "glu", lambda run, node, a, b: fail(a))
                patch.setitem(reference._OPS, "rms_norm", lambda run, node, a: fail(a))
                reference._operation.cache_clear()
                with pytest.raises(type(error)):
                    twin.append(TOKENS[20:30])
            reference._operation.cache_clear()
            np.testing.assert_allclose(_at(twin, 20), before, atol=1e-3)
            again = twin.append(TOKENS[20:30])
            np.testing.assert_allclose(_at(again, 30), expected, atol=1e-3)
            twin.truncate(20)


def test_drafts_are_closed_before_their_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, order = nextn_model("qwen35", tmp_path / "model.gguf"), list[str]()
    with GGUFFile(path) as file:
        model = open_model(file, "reference", n_ctx=128, mtp=True)
    engine = Engine(model, "f32")
    block = NextnBlock(engine, model.mtp[0], "f32")

    def noted(name: str, close: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            order.append(name)
            close()

        return call

    monkeypatch.setattr(block, "free", noted("draft", block.free))
    monkeypatch.setattr(model.backend, "close", noted("model", model.backend.close))
    engine.close()
    block.close()
    assert block.closed and order == ["draft", "model"]


def test_an_error_while_closing_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(device="reference:0", n_gpu_layers=3)
    devices = model.engine.backend.devices  # type: ignore[attr-defined]
    closed = list[str]()

    def fail() -> None:
        raise RuntimeError("this one does not close")

    for name, backend in devices.items():
        monkeypatch.setattr(backend, "close", lambda name=name: closed.append(name))
    monkeypatch.setattr(model.engine._program, "close", fail)
    monkeypatch.setattr(model.engine.pools[0].pool, "close", fail)
    with pytest.raises(RuntimeError, match="does not close"):
        model.close()
    assert sorted(closed) == ["cpu", "reference:0"]
    model.close()


def _rounds(places: Places, n: int) -> int:
    """Bytes by which the process grew in the last three quarters of `n` rounds."""
    before = 0
    for i in range(n):
        if i == n // 4:
            before = _resident()
        with load(**places) as model:
            model.forward(TOKENS[:3])
    return _resident() - before


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no such file on this system")
@pytest.mark.parametrize("places", PLACES[:1])
def test_two_hundred_rounds(places: Places) -> None:
    assert _rounds(places, 200) < 4 << 20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no such file on this system")
@pytest.mark.parametrize("places", PLACES[1:])
def test_two_hundred_rounds_elsewhere(places: Places) -> None:
    with faults() as found:
        assert _rounds(places, 200) < 8 << 20
        assert found.handles == 0


def test_closing_twice_and_using_after(tmp_path: Path) -> None:
    model = load(device="reference", n_gpu_layers=2)
    sequence = model.sequence(TOKENS[:5])
    model.close()
    model.close()
    for use in (lambda: model.forward(TOKENS), lambda: sequence.logits, model.memory_by_device,
                lambda: sequence.append([4]).logits):  # fmt: skip
        with pytest.raises((ClosedError, JitllmError)):
            use()
