"""Backends that are found: files, those registered, those of installed packages."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from models import model_path

import jitllm
from jitllm import backends
from jitllm.backends import reference
from jitllm.backends.base import BackendUnavailable, Batch, DeviceMemory, Floats, Program, Tap
from jitllm.llm.cli import main
from jitllm.llm.errors import BackendError

STORIES = model_path("stories260K")
_PACKAGE = """
from typing import Any

from jitllm.backends.base import Backend, BackendUnavailable, DeviceMemory
from jitllm.backends.reference import ReferenceBackend, rules


def open(**options: Any) -> Backend:
    return Abacus("fast")


class Abacus(ReferenceBackend):
    name = "abacus"
    description = "beads on rods"

    def device_memory(self) -> DeviceMemory:
        return DeviceMemory(10 << 30, 7 << 30)


class Missing:
    @staticmethod
    def open(**options: Any) -> Backend:
        raise BackendUnavailable("the rods are elsewhere")
"""
_ENTRIES = """[jitllm.backends]
abacus = abacus_backend
elsewhere = abacus_backend:Missing
broken = abacus_backend:nothing
cpu = abacus_backend
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution on the path, as installed ones are."""
    info = tmp_path / "abacus_backend-1.0.dist-info"
    info.mkdir()
    (tmp_path / "abacus_backend.py").write_text(_PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abacus-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Those registered in a test, forgotten behind it."""
    own: dict[str, Any] = {}
    monkeypatch.setattr(backends, "_registered", own)
    yield own


def _load(**options: Any) -> jitllm.Model:
    return jitllm.load(STORIES, n_ctx=64, cache_bytes=2_000_000, progress=False, **options)


@pytest.mark.usefixtures("package")
def test_a_package_brings_a_backend() -> None:
    assert {"abacus", "elsewhere", "broken", "cpu"} <= set(backends.names())
    with _load(device="reference") as model:
        expected = model.forward([1, 2, 3])
    with _load(device="abacus") as model:
        assert type(model.engine.backend).__name__ == "Abacus" and model.device == "abacus"
        np.testing.assert_array_equal(model.forward([1, 2, 3]), expected)
    with _load(device="abacus", n_gpu_layers=3, overrides={"ffn_up": "cpu"}) as model:
        assert list(model.memory_by_device()) == ["cpu", "abacus"]
        shares = jitllm.plan(
            STORIES, device="abacus", n_ctx=64, cache_bytes=2_000_000, n_gpu_layers=3,
            overrides={"ffn_up": "cpu"},
        ).shares  # fmt: skip
        held = {name: sum(sizes.values()) for name, sizes in model.memory_by_device().items()}
        assert held == {s.device: s.weights + s.pool + s.compute for s in shares}
        np.testing.assert_allclose(model.forward([1, 2, 3]), expected, atol=0.1)
    assert backends.open_backend("cpu").name == "cpu"  # files come first


@pytest.mark.usefixtures("package")
def test_what_is_wrong_with_a_package_is_told() -> None:
    with pytest.raises(BackendError, match="the rods are elsewhere"):
        _load(device="elsewhere")
    with pytest.raises(BackendError, match="backend 'broken' does not load .*nothing"):
        _load(device="broken")
    with pytest.raises(BackendError, match="no byte rules for device 'elsewhere'"):
        jitllm.plan(STORIES, device="elsewhere")
    with pytest.raises(BackendUnavailable, match=r"one of \['abacus', .*, got 'lost'"):
        backends.open_backend("lost")
    for name in ("_cpu/plan", "_pattern", "base", "placement", "../cpu", ""):
        with pytest.raises(BackendUnavailable, match="device must be one of"):
            backends.open_backend(name)


@pytest.mark.usefixtures("package")
def test_the_list_of_devices(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {device.name: device for device in backends.devices()}
    assert list(listed) == backends.names()
    assert listed["cpu"].is_usable and "thread" in listed["cpu"].text
    assert (listed["abacus"].is_usable, listed["abacus"].text) == (True, "beads on rods")
    assert listed["abacus"].memory == DeviceMemory(10 << 30, 7 << 30)
    assert not listed["broken"].is_usable and "does not load" in listed["broken"].text
    assert main(["devices", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(d["name"], d["is_usable"]) for d in shown] == [
        (name, device.is_usable) for name, device in listed.items()
    ]
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "abacus     beads on rods; 7.0 of 10.0 GiB free" in lines
    assert "elsewhere  not usable: the rods are elsewhere" in lines


def test_registered_ones_come_first(registered: dict[str, Any]) -> None:
    backends.register_backend("cpu", reference)
    backends.register_backend("mine", SimpleNamespace(open=reference.open))
    with _load(device="cpu") as model:
        assert model.engine.backend.name == "reference"
    with _load(device="mine", n_gpu_layers=2) as model:
        assert list(model.memory_by_device()) == ["cpu", "mine"]
    assert list(registered) == ["cpu", "mine"] and "mine" in backends.names()
    with pytest.raises(TypeError, match="expected an object with `open`"):
        backends.register_backend("none", SimpleNamespace())


class _Whole(Program):
    """A program that cannot pause."""

    def __init__(self, program: Program) -> None:
        self.program, self.max_tokens = program, program.max_tokens

    def run(self, batch: Batch, tap: Tap | None = None) -> Floats:
        return self.program.run(batch, tap)

    def close(self) -> None:
        self.program.close()


class _WholeBackend(reference.ReferenceBackend):
    def compile(self, *args: Any, **options: Any) -> Program:
        return _Whole(super().compile(*args, **options))


@pytest.mark.usefixtures("registered")
def test_a_backend_that_runs_whole_models_only() -> None:
    backends.register_backend("whole", SimpleNamespace(open=lambda **_: _WholeBackend("fast")))
    with _load(device="whole") as model, _load(device="reference") as other:
        np.testing.assert_array_equal(model.forward([1, 2]), other.forward([1, 2]))
    with pytest.raises(BackendError, match="device 'whole' runs whole models only"):
        _load(device="whole", n_gpu_layers=3)
