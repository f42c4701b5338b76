"""What "auto" chooses: all that fits into the devices' free memory, and no byte more."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import nmse, opens, simulate_cuda
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm import backends
from jitllm.backends._cuda import simulator
from jitllm.backends._split.backend import SplitBackend
from jitllm.backends.base import DeviceMemory
from jitllm.llm import plan_auto
from jitllm.llm.cli import main
from jitllm.llm.errors import BackendError
from jitllm.llm.plan import Plan, plan

STORIES = str(model_path("stories260K"))
ALL, GIB = 6, 1 << 30  # five layers and the output
TWO = ["reference:0", "reference:1"]
COMMON: dict[str, Any] = {
    "n_ctx": 64, "n_threads": 1, "precision": "exact", "cache_bytes": 300_000, "progress": False
}  # fmt: skip
TOKENS = [1, *range(3, 40)]


def _tell(patch: pytest.MonkeyPatch, free: Mapping[str, int], total: int = 0) -> None:
    """Let devices have so many bytes free."""
    memory = {name: DeviceMemory(max(total, n), n) for name, n in free.items()}
    patch.setattr(backends, "device_memory", memory.get)


def _held(model: jitllm.Model) -> dict[str, int]:
    return {name: sum(sizes.values()) for name, sizes in model.memory_by_device().items()}


def _memory(model: jitllm.Model) -> DeviceMemory:
    """What the simulated device of a model tells."""
    backend = model.engine.backend
    assert isinstance(backend, SplitBackend)
    memory = backend.devices["cuda"].device_memory()
    assert memory
    return memory


def _reserved(planned: Plan) -> dict[str, int]:
    return {s.device: s.weights + s.pool + s.compute for s in planned.shares}


@pytest.mark.parametrize("device", ["reference", "vulkan", "cuda"])
def test_what_fits_is_loaded(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)
    if not opens(device):
        pytest.skip("no such device here")
    common: dict[str, Any] = {**COMMON, "device": device}
    costs = [plan(STORIES, **common, n_gpu_layers=n).share(device).total for n in range(ALL + 1)]
    auto: dict[str, Any] = {**common, "n_gpu_layers": "auto", "margin": 1000}
    with jitllm.load(STORIES, **COMMON) as model:
        expected = model.forward(TOKENS)
    for n, room in ((0, costs[1] - 1), (1, costs[1]), (ALL - 1, costs[-1] - 1)):
        _tell(monkeypatch, {device: room + 1000})
        planned = plan(STORIES, **auto)
        assert (planned.n_placed, planned.placing.n_gpu_layers) == (n, n)
        assert planned.share(device).total <= room
        with jitllm.load(STORIES, **auto) as model:
            assert model.placing == planned.placing
            assert _held(model) == _reserved(planned)
            assert nmse(model.forward(TOKENS), expected) <= 1e-6
            assert _held(model) == _reserved(planned)
        again = plan(STORIES, n_threads=1, precision="exact", **planned.arguments())
        assert again == planned
    _tell(monkeypatch, {device: costs[-1] + 1000})
    assert plan(STORIES, **auto).n_placed == ALL
    _tell(monkeypatch, {device: GIB})
    assert plan(STORIES, **auto) == plan(STORIES, **common, margin=1000)  # the embedding, too


def test_a_device_has_just_these_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITLLM_CUDA", "simulator")
    if not opens("cuda"):
        pytest.skip("kernels cannot be simulated here")
    common: dict[str, Any] = {**COMMON, "device": "cuda"}
    room = plan(STORIES, **common, n_gpu_layers=2).share("cuda").total
    for n_bytes, n in ((room, 2), (room - 4, 1)):
        monkeypatch.setattr(simulator, "_memory_bytes", lambda n=n_bytes: n)
        auto: dict[str, Any] = {**common, "n_gpu_layers": "auto", "margin": 0}
        planned = plan(STORIES, **auto)
        assert planned.placing.n_gpu_layers == n
        with jitllm.load(STORIES, **auto) as model:
            assert np.isfinite(model.forward(TOKENS[:9])).all()
            memory = _memory(model)
        assert memory.total - memory.free == planned.share("cuda").total
    with pytest.raises(BackendError, match="bytes are needed"):
        jitllm.load(STORIES, **common, n_gpu_layers=2)


def test_several_devices_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    common: dict[str, Any] = {**COMMON, "device": TWO}

    def room(*counts: int) -> dict[str, int]:
        made = plan(STORIES, **common, n_gpu_layers=sum(counts), split=counts)
        return {name: made.share(name).total for name in TWO}

    auto: dict[str, Any] = {**common, "n_gpu_layers": "auto", "margin": 0}
    for counts in ((4, 2), (1, 5), (1, 2), (0, 3), (3, 1)):
        _tell(monkeypatch, room(*counts))
        with jitllm.load(STORIES, **auto) as model:
            placing = model.placing
        assert placing.n_gpu_layers == sum(counts)
        made = plan(STORIES, **{**common, **placing.arguments()}).placement
        places = (*made.layers, made.output)
        assert tuple(places.count(name) for name in TWO) == counts
    _tell(monkeypatch, room(4, 2))
    given = plan(STORIES, **auto, split=[1, 1])  # is kept
    assert given.placing.split == (1, 1) and given.n_placed < ALL


def test_experts_stay_before_layers_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = conformance_model("qwen3moe-moe", tmp_path / "model.gguf")
    common: dict[str, Any] = {**COMMON, "device": "reference"}
    n = plan(path, **common).n_layers
    assert n > 1

    def there(**placing: Any) -> int:
        return plan(path, **common, **placing).share("reference").total

    def auto(room: int) -> tuple[Any, int]:
        _tell(monkeypatch, {"reference": room})
        found = plan(path, **common, n_gpu_layers="auto", margin=0).placing
        return found.n_gpu_layers, found.n_cpu_moe

    assert auto(there(n_gpu_layers=-1)) in ((None, 0), (n + 1, 0))
    for k in range(1, n + 1):
        assert auto(there(n_gpu_layers=-1, n_cpu_moe=k)) == (n + 1, k)
    assert auto(there(n_gpu_layers=-1, n_cpu_moe=n) - 1) == (n, n)
    assert auto(0) == (0, n)
    _tell(monkeypatch, {"reference": there(n_gpu_layers=-1, n_cpu_moe=1)})
    with jitllm.load(path, **common, n_gpu_layers="auto", margin=0) as model:
        assert model.placing.n_cpu_moe == 1
        planned = plan(path, **common, n_gpu_layers="auto", margin=0)
        assert _held(model) == _reserved(planned)


def test_an_open_context_becomes_shorter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plan_auto, "LEAST_CTX", 128)
    monkeypatch.setattr(plan_auto, "_STEP", 64)
    common: dict[str, Any] = {"n_threads": 1, "device": "reference"}
    auto: dict[str, Any] = {**common, "n_gpu_layers": "auto", "margin": 0}
    for n_ctx, more in ((512, 0), (448, 0), (320, 99), (128, 0)):
        room = plan(STORIES, **common, n_gpu_layers=-1, n_ctx=n_ctx).share("reference").total
        _tell(monkeypatch, {"reference": room + more})
        found = plan(STORIES, **auto)
        assert (found.n_ctx, found.n_placed) == (n_ctx, ALL)
        assert plan(STORIES, **auto, n_ctx=512).n_placed == (ALL if n_ctx == 512 else ALL - 1)
    _tell(monkeypatch, {"reference": room - 1})
    found = plan(STORIES, **auto)
    assert (found.n_ctx, found.n_placed) == (128, ALL - 1)
    with (
        caplog.at_level(logging.INFO, "jitllm.placing"),
        jitllm.load(STORIES, progress=False, **auto) as model,
    ):
        assert (model.n_ctx, model.placing) == (128, found.placing)
    assert "5 of 6 layers" in caplog.text and "n_ctx=128, n_gpu_layers=5" in caplog.text


def test_devices_share_by_what_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    common: dict[str, Any] = {**COMMON, "device": TWO}
    free = dict(zip(TWO, (8 * GIB, 4 * GIB), strict=True))
    splits = []
    for noise in (0, -9 << 20, 300 << 20):
        _tell(monkeypatch, {name: n + noise for name, n in free.items()}, total=16 * GIB)
        splits.append(plan(STORIES, **common).placing.split)
    assert splits == [(8.0, 4.0)] * 3
    with caplog.at_level(logging.INFO, "jitllm.placing"), jitllm.load(STORIES, **common) as model:
        assert model.placing.split == [8.0, 4.0]
        assert _held(model) == _reserved(plan(STORIES, **common))
    assert "split by free memory: {'reference:0': 8.0, 'reference:1': 4.0}" in caplog.text
    assert plan(STORIES, **common, split=[1, 2]).placing.split == (1, 2)
    _tell(monkeypatch, {TWO[0]: GIB})  # the other one tells nothing
    assert plan(STORIES, **common).placing.split == (1, 1)


def test_the_margin_and_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    auto: dict[str, Any] = {**COMMON, "device": "reference", "n_gpu_layers": "auto"}
    _tell(monkeypatch, {"reference": GIB, "reference:0": GIB})
    assert plan(STORIES, **auto).n_placed == 0  # a GiB stays free
    assert plan(STORIES, **auto, margin=0).n_placed == ALL
    with pytest.raises(BackendError, match="what has to be on"):
        plan(STORIES, **auto, overrides={"blk": "reference"})
    with jitllm.load(STORIES, **{**auto, "device": "reference:0"}, margin=0) as model:
        assert model.placing.n_gpu_layers is None and list(_held(model)) == ["reference:0"]
    with pytest.raises(ValueError, match="margin"):
        plan(STORIES, **auto, margin=-1)


def test_the_commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = [STORIES, "-c", "64", "-t", "1", "-dev", "reference"]
    room = plan(STORIES, n_ctx=64, n_threads=1, device="reference", n_gpu_layers=3)
    _tell(monkeypatch, {"reference": room.share("reference").total + (2 << 20)})
    for spelled in ("auto", "-1"):
        assert main(["plan", *model, "-ngl", spelled, "-fitt", "2", "--json"]) == 0
        (shown,) = json.loads(capsys.readouterr().out)
        assert shown["placing"]["n_gpu_layers"] == 3 and shown["placing"]["margin"] == 2 << 20
    assert main(["plan", *model, "-ngl", "-2"]) == 0
    assert "5/5 layers on the device, with the output" in capsys.readouterr().out
    both = ["plan", *model, "-ngl", "auto", "-fitt", "2", "-md", STORIES, "--json"]
    assert main(both) == 0
    found = json.loads(capsys.readouterr().out)["plans"]
    assert [p["placing"]["n_gpu_layers"] for p in found] == [3, 0]
    assert main(["run", *model, "Once", "-n", "2", "-ngl", "auto", "-fitt", "2"]) == 0
