"""Models in repositories, with the hub library's functions replaced: no test uses a network."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jitllm.llm.errors import ModelNotFoundError
from jitllm.llm.loaders.sources import resolve

MODEL = b"GGUF" + bytes(range(256)) * 8
REMOTE = [
    ".gitattributes",
    "README.md",
    "Model-Q4_K_M.gguf",
    "Model-IQ4_XS.gguf",
    "Model.Q8_0.gguf",
    "mmproj-Model-F16.gguf",
    "BF16/Model-BF16-00001-of-00002.gguf",
    "BF16/Model-BF16-00002-of-00002.gguf",
]


class Hub:
    """A repository `owner/name`, and the library's cache for it."""

    def __init__(self, cache: Path, names: list[str]) -> None:
        self.snapshot = cache / "models--owner--name" / "snapshots" / "abc"
        self.cache = cache
        self.names = names
        self.calls: list[str] = []

    def put(self, name: str) -> Path:
        """Put a file in the cache, as a download does."""
        refs = self.snapshot.parents[1] / "refs"
        refs.mkdir(parents=True, exist_ok=True)
        (refs / "main").write_text("abc")
        path = self.snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MODEL)
        return path

    def model_info(self, repo: str, timeout: float) -> SimpleNamespace:
        assert 0 < timeout <= 10
        self.calls.append(f"list {repo}")
        if repo != "owner/name":
            raise ConnectionError("no route")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.names])

    def hf_hub_download(self, repo: str, name: str) -> str:
        self.calls.append(name)
        if name not in self.names:
            raise FileNotFoundError("404")
        return str(self.put(name))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub's library, with its functions replaced by `Hub`'s."""
    import huggingface_hub
    from huggingface_hub import constants

    fake = Hub(tmp_path / "hub", REMOTE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(fake.cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "model_info",
        lambda _, repo, timeout: fake.model_info(repo, timeout),
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    return fake


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("owner/name:Q4_K_M", "Model-Q4_K_M.gguf"),
        ("owner/name:q4_k_m", "Model-Q4_K_M.gguf"),
        ("owner/name:q8_0", "Model.Q8_0.gguf"),
        ("owner/name:iq4_xs", "Model-IQ4_XS.gguf"),
        ("owner/name", "Model-Q4_K_M.gguf"),
        ("owner/name/Model.Q8_0.gguf", "Model.Q8_0.gguf"),
    ],
)
def test_repository(hub: Hub, ref: str, name: str) -> None:
    path = resolve(ref, progress=False)
    assert path == hub.snapshot / name
    assert hub.calls == ["list owner/name", name]


@pytest.mark.parametrize("ref", ["owner/name:bf16", f"owner/name/{REMOTE[-1]}"])
def test_repository_with_splits_is_fetched_whole(hub: Hub, ref: str) -> None:
    path = resolve(ref)
    assert path == hub.snapshot / REMOTE[-2]
    assert hub.calls == ["list owner/name", *REMOTE[-2:]]
    assert resolve(ref) == path
    assert len(hub.calls) == 3
    (hub.snapshot / REMOTE[-1]).unlink()
    assert resolve(ref) == path
    assert hub.calls[3:] == ["list owner/name", *REMOTE[-2:]]


def test_cached_model_needs_no_network(hub: Hub) -> None:
    from huggingface_hub import try_to_load_from_cache

    path = hub.put("Model-Q4_K_M.gguf")
    found = try_to_load_from_cache("owner/name", "Model-Q4_K_M.gguf", cache_dir=hub.cache)
    assert found == str(path)  # the library itself sees the cache that is made here
    assert resolve("owner/name:q4_K_M") == resolve("owner/name/Model-Q4_K_M.gguf") == path
    assert hub.calls == []


@pytest.mark.parametrize("quant", ["Q4_K", "Q4_XS", "F16", "Q2_K", "00001"])
def test_repository_without_that_quant(hub: Hub, quant: str) -> None:
    with pytest.raises(
        ModelNotFoundError, match="got none; there is: .*Model-Q4_K_M.gguf"
    ) as error:
        resolve(f"owner/name:{quant}")
    assert "mmproj" not in str(error.value)


def test_repository_with_a_choice(hub: Hub) -> None:
    hub.names = ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "a-Q8_0.gguf"]
    with pytest.raises(ModelNotFoundError, match="got 2 that fit; there is: a-Q4_K_M.gguf, a-Q8"):
        resolve("owner/name")
    with pytest.raises(ModelNotFoundError, match="expected 'Q4_K_M' .*got 2 that fit"):
        resolve("owner/name:Q4_K_M")
    hub.names = ["only-F16.gguf"]
    assert resolve("owner/name") == hub.snapshot / "only-F16.gguf"
    hub.names = ["README.md"]
    with pytest.raises(ModelNotFoundError, match="there is: no model"):
        resolve("owner/name")


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="local cache of owner/name .HF_HUB_OFFLINE.*no m"):
        resolve("owner/name:Q8_0")
    path = hub.put("Model.Q8_0.gguf")
    assert resolve("owner/name:Q8_0") == resolve("owner/name") == path
    with pytest.raises(ModelNotFoundError, match="'Q4_K_M' .*got none; there is: Model.Q8_0.gguf"):
        resolve("owner/name:Q4_K_M")
    hub.put(REMOTE[-2])
    with pytest.raises(ModelNotFoundError, match="'BF16' .*got none"):
        resolve("owner/name:BF16")
    assert hub.calls == []


def test_no_network(hub: Hub) -> None:
    with pytest.raises(ModelNotFoundError, match="ConnectionError: no route.*give the path"):
        resolve("owner/other:Q8_0")


def test_a_path_is_told_before_the_repository(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="^'models/x/y.gguf' is no file or folder in .*"):
        resolve("models/x/y.gguf")
    (tmp_path / "models").mkdir()
    hub.calls.clear()
    with pytest.raises(ModelNotFoundError, match="^expected a model file at 'models/x/y.gguf'"):
        resolve("models/x/y.gguf")
    assert hub.calls == []


def test_without_a_network_there_is_one_attempt(tmp_path: Path) -> None:
    """The library itself, against a port where nobody listens: it would try for 20 seconds."""
    code = (
        "import sys, time; from jitllm.llm.loaders.sources import resolve; start = time.time()\n"
        "try: resolve('owner/name:Q8_0')\n"
        "except FileNotFoundError as error: print(error, time.time() - start)"
    )
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=os.environ | env, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    message, _, seconds = done.stdout.rpartition(" ")
    assert "expected to list the repository owner/name" in message
    assert float(seconds) < 5


def test_failed_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repo: str, name: str) -> str:
        raise ConnectionError("reset")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(ModelNotFoundError, match="fetch Model.Q8_0.gguf of owner/name, got Conn"):
        resolve("owner/name:Q8_0")


def test_progress_bars_are_restored(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    seen = []

    def look(repo: str, name: str) -> str:
        seen.append(are_progress_bars_disabled())
        return hub.hf_hub_download(repo, name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", look)
    before = are_progress_bars_disabled()
    resolve("owner/name:Q8_0", progress=False)
    resolve("owner/name:IQ4_XS", progress=True)
    assert seen == [True, before]
    assert are_progress_bars_disabled() == before
