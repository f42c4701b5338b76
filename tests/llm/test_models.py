"""Architectures against llama.cpp's logits, on every backend that is here."""

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from logits import MAX_NMSE, WRONG_NMSE, Files, change, logits_error, written_once
from models import model_path
from numpy.typing import NDArray
from tiny import (
    conformance_architecture,
    conformance_golden,
    conformance_model,
    conformance_names,
    conformance_weights,
    write_gguf,
)
from variants import VARIANTS, variant_golden, variant_model
from variants.encoders import ENCODERS
from variants.rwkv import RWKV_VARIANTS
from variants.written import WRITTEN

from jitllm.llm import models
from jitllm.llm.errors import BackendError, GGUFError, UnsupportedArchitecture, UnsupportedFormat
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models import llama, smollm3
from jitllm.llm.models.loading import open_model

FORMS = {name: conformance_architecture(name).replace("-", "_") for name in conformance_names()}
KNOWN = frozenset(models.names())
OWN = [name for name, architecture in FORMS.items() if architecture in KNOWN]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a model of the conformance set or of a variant, written once."""

    def write(name: str, path: Path) -> Path:
        return (variant_model if name in VARIANTS else conformance_model)(name, path)

    return written_once(tmp_path_factory.mktemp("models"), write)


def golden(name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens and logits that llama.cpp gives for a model."""
    is_own = name in VARIANTS or name == "stories260K"
    return variant_golden(name) if is_own else conformance_golden(name)


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, golden(name), device, **options)


def test_every_architecture_is_tested() -> None:
    others = {
        name.partition(".")[0].replace("-", "_") for name in [*ENCODERS, *WRITTEN, *RWKV_VARIANTS]
    }
    for name in set(models.names()) - set(FORMS.values()) - others:
        assert Path(__file__).with_name(f"test_model_{name}.py").exists(), name


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


@pytest.mark.parametrize("name", OWN)
def test_conformance(tmp_path: Path, name: str) -> None:
    path = conformance_model(name, tmp_path / "model.gguf")
    errors = {device: error(path, name, device) for device in devices()}
    path.unlink()  # all of them are gigabytes
    assert max(errors.values()) <= MAX_NMSE, errors


@pytest.mark.parametrize("device", devices())
def test_logits_of_a_trained_model(device: str) -> None:
    assert error(model_path("stories260K"), "stories260K", device) <= MAX_NMSE


WRONG = {
    "pairs of rope": ("llama-fused", change("rope", kind="neox")),
    "rope magnitude": ("smollm3-five-layers", change("rope", magnitude=0.99)),
    "yarn magnitude": ("llama-yarn", change("rope", magnitude=1.0)),
    "activation": ("gemma3-no-window", change("glu", act="silu")),
    "attention scale": ("gemma3-windows", change("attention", scale=0.1)),
    "final cap": ("gemma3-windows", change("soft_cap", cap=3.2)),
    "window": ("gemma3-windows", change("attention", window=9)),
    "embedding scale": ("gemma3-windows", change("scale", factor=15.0)),
    "epsilon of norms": ("qwen3", change("rms_norm", eps=0.1)),
    "experts used": ("llama-routed", change("experts", k=3)),
    "weights of experts": ("llama-routed", change("experts", norm=False)),
    "scales of experts": ("qwen3moe-routed", change("experts", scales=(None,) * 3)),
    "temperature": ("mistral3-temperature", change("scale_by_position", slope=0.45)),
    "length of temperature": ("mistral3-temperature", change("scale_by_position", length=9)),
    "attention cap": ("gemma2-windows", change("attention", soft_cap=0.0)),
    "gains of heads": ("talkie", change("column_scale", factors=np.ones(256, np.float32))),
    "slopes": ("bloom", change("attention", slopes=np.array([0.25, 0.0625], np.float32))),
    "tokens behind": ("dream", change("attention", causal=True)),
    "bounds of heads": ("olmo-bounds", change("clamp", bound=1.6)),
    "window and rope": ("cohere2-windows", change("attention", window=9)),
    "weights of heads": ("stablelm", change("column_scale", factors=np.ones(256, np.float32))),
    "logit factor": ("command-r", change("scale", factor=0.26)),
    "halves of the gate": ("phi3-short", change("columns", start=0, stop=384)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, edit=edit) > WRONG_NMSE


def test_layers_without_rope_are_seen(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm3, "NO_ROPE_EVERY", 5)
    assert error(files("smollm3-five-layers"), "smollm3-five-layers") > WRONG_NMSE


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", ["gemma3-windows", "llama-routed"])
def test_cutting_a_prompt_changes_nothing(files: Files, name: str, device: str) -> None:
    tokens, _ = golden(name)
    with Runner(files(name), device, max_tokens=28) as runner:
        whole = runner.forward(tokens)
    with Runner(files(name), device, max_tokens=5) as runner:
        cut = runner.forward(tokens)
    np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-5)


def test_context_length_chooses_the_rope_factors(files: Files) -> None:
    tokens, _ = golden("phi3-long-fused")
    logits = []
    for n_ctx in (16, 17):
        with Runner(files("phi3-long-fused"), n_ctx=n_ctx) as runner:
            logits.append(runner.forward(tokens[:16]))
    assert nmse(logits[0], logits[1]) > WRONG_NMSE


def test_unknown_architecture_lists_the_known() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"gemma3, .*llama, .*got 'no-such'"):
        models.get("no-such")
    with pytest.raises(UnsupportedArchitecture):
        models.get("_stack")


def test_registered_architecture(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_registered", {})
    calls = []

    @models.register_architecture("llama")
    def build(g: Any, config: Any) -> None:
        calls.append(config.architecture)
        h = g.embed("token_embd.weight", width=config.hidden_size, name="token_embd")
        h = g.select_outputs(h, name="output_rows")
        g.matmul(h, "token_embd.weight", name="output")

    with Runner(files("llama-dense")) as runner:
        assert runner.forward([1, 2]).shape == (2, 128)
        assert "output.weight" in runner.model.unused
    assert calls == ["llama"]


def test_entry_points_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("foreign", "jitllm.llm.models.llama:build", models.GROUP)
    monkeypatch.setattr(models, "_entry_points", lambda **_: EntryPoints([entry]))
    assert models.get("foreign") is llama.build
    assert "foreign" in models.names()


def _edited(path: Path, target: Path, **changes: Any) -> Path:
    """A copy of a model with tensors replaced, or left out (None)."""
    with GGUFFile(path) as file:
        metadata = {
            key: value
            for key, value in file.metadata.items()
            if not key.startswith("tokenizer") and key != "llama.xielu"
        }
        tensors = {
            name: file.data(name).view(np.float32).reshape(info.shape).copy()
            for name, info in file.tensors.items()
        }
    tensors |= changes.get("replace", {})
    for name in changes.get("drop", ()):
        del tensors[name]
    return write_gguf(target, metadata, tensors)


def _open(path: Path, **options: Any) -> Any:
    with GGUFFile(path) as file:
        return open_model(file, "reference", **options)


def test_missing_tensor(files: Files, tmp_path: Path) -> None:
    path = _edited(files("llama-dense"), tmp_path / "m.gguf", drop=["blk.1.ffn_up.weight"])
    with pytest.raises(GGUFError, match=r"m\.gguf.*blk\.1\.ffn_up.*\(384, 256\), got none"):
        _open(path)


def test_wrong_shape(files: Files, tmp_path: Path) -> None:
    wrong = {"blk.0.attn_q.weight": np.zeros((250, 256), np.float32)}
    path = _edited(files("llama-dense"), tmp_path / "m.gguf", replace=wrong)
    with pytest.raises(GGUFError, match=r"attn_q.*\(256, 256\), got \(250, 256\)"):
        _open(path)


def test_type_without_kernels(files: Files, tmp_path: Path) -> None:
    wrong = {"output_norm.weight": np.zeros(256, np.int32)}
    path = _edited(files("llama-dense"), tmp_path / "m.gguf", replace=wrong)
    with pytest.raises(UnsupportedFormat, match=r"output_norm.*got I32"):
        _open(path)


def test_unknown_device(files: Files) -> None:
    with GGUFFile(files("llama-dense")) as file, pytest.raises(BackendError, match="no-such"):
        open_model(file, "no-such")


def test_loading_reports_progress_in_file_order(files: Files) -> None:
    reports: list[tuple[int, int]] = []
    model = _open(files("llama-dense"), progress=lambda done, total: reports.append((done, total)))
    model.backend.close()
    done = [report[0] for report in reports]
    assert done[0] == 0 and done == sorted(done) and done[-1] == reports[0][1]


def test_progress_can_stop_the_loading(files: Files) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _open(files("llama-dense"), progress=stop)


@pytest.mark.parametrize("device", devices())
def test_only_speech_tokens_have_logits(files: Files, tmp_path: Path, device: str) -> None:
    table = np.zeros((3172, 256), np.float32)
    table[:3072] = conformance_weights("token_embd.weight", (3072, 256))
    path = _edited(
        files("qwen3tts-dense"), tmp_path / "m.gguf", replace={"token_embd.weight": table}
    )
    tokens, expected = conformance_golden("qwen3tts-dense")
    with Runner(path, device) as runner:
        got = runner.forward(tokens)[-16:]
    assert np.all(got[:, :100] == -np.inf)
    assert nmse(got[:, 100:], expected) <= MAX_NMSE
