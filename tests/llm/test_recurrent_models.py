"""Recurrent and hybrid architectures against llama.cpp's logits, and their bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices
from logits import MAX_NMSE, WRONG_NMSE, Files, change, logits_error, written_once
from tiny import conformance_model, write_gguf
from variants.recurrent import RECURRENT_VARIANTS, recurrent_golden, recurrent_model

from jitllm.llm.errors import GGUFError, ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models import minimax_01
from jitllm.llm.models.loading import open_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a variant, written once."""
    return written_once(tmp_path_factory.mktemp("recurrent"), recurrent_model)


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits."""
    return logits_error(path, recurrent_golden(name), device, **options)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", RECURRENT_VARIANTS)
def test_logits_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


WRONG = {
    "activation of the convolution": ("mamba2-heads", change("causal_conv", act="")),
    "bias of the convolution": ("mamba2-heads", change("causal_conv", bias=None)),
    "bias of steps": ("granitehybrid-scales", change("ssm_scan", step_bias=None)),
    "what passes by the state": ("plamo2-heads", change("ssm_scan", d=None)),
    "norm over groups": ("mamba2-heads", change("rms_norm", group=256)),
    "pairs of rope": ("falcon-h1-heads", change("rope", kind="norm")),
    "window": ("lfm2-windows", change("attention", window=9)),
    "experts' weights": ("jamba-experts", change("experts", norm=True)),
    "factor of experts": ("nemotron_h_moe-latent", change("experts", factor=1.0)),
    "experts' scales": ("nemotron_h_moe-latent", change("experts", scales=(None,) * 3)),
    "gating": ("lfm2moe-softmax", change("experts", gating="sigmoid")),
    "square of the network": ("nemotron_h-network", change("activation", act="relu")),
    "gate's activation": ("minimax-01-heads", change("activation", act="sigmoid")),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, edit=edit) > WRONG_NMSE


def test_a_wrong_decay_is_seen(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    decays, name = minimax_01.decays, "minimax-01-heads"
    monkeypatch.setattr(minimax_01, "decays", lambda heads, i, n: decays(heads, i, n + 1))
    assert error(files(name), name) > WRONG_NMSE


@pytest.mark.parametrize(
    "name", ["mamba-normed", "jamba-experts", "falcon-h1-heads", "lfm2-windows", "minimax-01-heads"]
)
def test_bits_depend_on_the_tokens_alone(files: Files, name: str) -> None:
    tokens, _ = recurrent_golden(name)
    with Runner(files(name), "cpu", max_tokens=28, n_threads=1) as runner:
        whole = runner.forward(tokens)
    for max_tokens, n_threads in ((1, 1), (5, 2), (28, 2)):
        with Runner(files(name), "cpu", max_tokens=max_tokens, n_threads=n_threads) as runner:
            assert np.array_equal(runner.forward(tokens), whole)


def test_a_sequence_starts_from_nothing(files: Files) -> None:
    tokens, _ = recurrent_golden("jamba-experts")
    with Runner(files("jamba-experts"), "cpu") as runner:
        first = runner.forward(tokens)
        assert np.array_equal(runner.forward(tokens), first)


def _with(path: Path, target: Path, **changes: Any) -> Path:
    """A copy of a model with other values of keys of its architecture; "__" stands for a dot."""
    with GGUFFile(path) as file:
        metadata = {k: v for k, v in file.metadata.items() if not k.startswith("tokenizer")}
        tensors = {
            name: file.data(name).view(np.float32).reshape(info.shape).copy()
            for name, info in file.tensors.items()
        }
    prefix = metadata["general.architecture"]
    metadata |= {f"{prefix}.{key.replace('__', '.')}": value for key, value in changes.items()}
    return write_gguf(target, metadata, tensors)


@pytest.mark.parametrize(
    ("name", "changes", "kind", "message"),
    [
        ("mamba-dense", {"ssm__conv_kernel": 1}, ModelFormatError, "at least 2 tokens"),
        ("mamba-dense", {"ssm__state_size": 0}, ModelFormatError, "'state_size': 0"),
        ("mamba-dense", {"ssm__inner_size": 256}, GGUFError, r"ssm_in.*\(512, 256\), got \(1024"),
        ("mamba2-dense", {"ssm__time_step_rank": 7}, ModelFormatError, "whole heads.*7 heads"),
        ("mamba2-dense", {"ssm__group_count": 3}, ModelFormatError, "whole groups.*3 groups"),
        ("lfm2-dense", {"shortconv__l_cache": 1}, ModelFormatError, "at least 2, got 1"),
        ("llama-dense", {"attention__head_count_kv": 0}, GGUFError, "attn_k"),
        ("llama-dense", {"attention__head_count": 0, "attention__head_count_kv": 0}, GGUFError,
         "attn_q"),
    ],
)  # fmt: skip
def test_sizes_that_fit_no_model(
    tmp_path: Path, name: str, changes: dict[str, int], kind: type[Exception], message: str
) -> None:
    base = conformance_model(name, tmp_path / "base.gguf")
    path = _with(base, tmp_path / "m.gguf", **changes)
    with GGUFFile(path) as file, pytest.raises(kind, match=message):
        open_model(file, "reference")
