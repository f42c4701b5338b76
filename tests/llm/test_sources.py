"""Model references: the forms, and paths."""

import subprocess
import sys
from pathlib import Path

import pytest
from models import model_path

from jitllm.kernels.folders import cache_root
from jitllm.llm.errors import ModelNotFoundError
from jitllm.llm.loaders.sources import resolve
from jitllm.llm.loaders.splits import group_splits

MODEL = b"GGUF" + bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("JITLLM_CACHE", str(cache))
    return cache


def test_a_file_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(MODEL)
    assert resolve(path) == resolve(str(path)) == path


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(MODEL)
    assert resolve("~/model.gguf") == tmp_path / "model.gguf"


def test_a_folder_with_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match="expected one model .*got no .gguf file"):
        resolve(folder)
    (folder / "model.gguf").write_bytes(MODEL)
    (folder / "mmproj-model.gguf").write_bytes(MODEL)
    (folder / "README.md").write_bytes(b"")
    assert resolve(folder) == folder / "model.gguf"
    (folder / "other.gguf").write_bytes(MODEL)
    with pytest.raises(ModelNotFoundError, match="got model.gguf, other.gguf; give the path"):
        resolve(folder)


def test_a_folder_with_a_split_model(tmp_path: Path) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    for i in (1, 2, 3):
        (folder / f"big-0000{i}-of-00003.gguf").write_bytes(MODEL)
    assert resolve(folder) == folder / "big-00001-of-00003.gguf"


def test_an_existing_folder_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "m.gguf").write_bytes(MODEL)
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/name") == Path("owner/name/m.gguf")


@pytest.mark.parametrize(
    "ref", ["absent.gguf", "./absent.gguf", "/no/such/dir/absent.gguf", "a/b.gguf"]
)
def test_an_absent_file(ref: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"expected a model file at .*absent|b\.gguf"):
        resolve(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "nothing",
        "a/b/c",
        "a/b:",
        "pypi:x",
        "pypi:x==",
        "pypi:-x==1",
        "pypi:x>=1",
        "a b/c",
        "x://y",
    ],
)
def test_other_forms(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError) as error:
        resolve(ref)
    for part in (repr(ref), ".gguf", "owner/name:QUANT", "pypi:DIST==VERSION", "folder"):
        assert part in str(error.value)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    assert cache_root() == own_cache
    monkeypatch.setenv("JITLLM_CACHE", "~/kept")
    assert cache_root() == Path.home() / "kept"
    monkeypatch.delenv("JITLLM_CACHE")
    assert cache_root().name.lower() in ("jitllm", "cache")


@pytest.mark.parametrize("ref", ["model.gguf", "pypi:some-model==1.0"])
def test_no_hub_library_for_paths_and_packages(ref: str, tmp_path: Path) -> None:
    """Nor tqdm: a model that is here starts without either."""
    folder = tmp_path / "cache" / "models" / "some-model==1.0"
    folder.mkdir(parents=True)
    for path in (tmp_path / "model.gguf", folder / "model.gguf"):
        path.write_bytes(MODEL)
    code = (
        "import sys; from jitllm.llm.loaders.sources import resolve; print(resolve(sys.argv[1]));"
        "print(*sorted({'huggingface_hub', 'tqdm', 'numba'} & {*sys.modules}))"
    )
    command = [sys.executable, "-P", "-c", code, ref]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    found, modules = result.stdout.splitlines()
    assert (tmp_path / found).read_bytes() == MODEL
    assert modules == ""


def test_model_in_the_repository() -> None:
    assert model_path("stories260K").read_bytes()[:4] == b"GGUF"


def test_groups_of_splits() -> None:
    splits = ["q/b-00001-of-00002.gguf", "q/b-00002-of-00002.gguf"]
    assert group_splits(["a.gguf", *splits]) == {"a.gguf": ["a.gguf"], splits[0]: splits}
    assert group_splits([splits[1]]) == {splits[0]: splits}
    assert group_splits(["x/imatrix.gguf", "mmproj-a.gguf", "a.txt"]) == {}
