"""Recurrent and hybrid architectures against llama.cpp's logits, and their bits."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from tiny import conformance_model, write_gguf
from variants.recurrent import RECURRENT_VARIANTS, recurrent_golden, recurrent_model

from jitllm.backends.ir import Graph
from jitllm.llm.errors import GGUFError, ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models import minimax_01
from jitllm.llm.models.loading import open_model

MAX_NMSE = 1e-6
WRONG_NMSE = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a variant, written once."""
    folder, done = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def path(name: str) -> Path:
        if name not in done:
            done[name] = recurrent_model(name, folder / f"{name}.gguf")
        return done[name]

    return path


def error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the last 16 logits: 20 tokens in one run, then 8 single ones."""
    tokens, expected = recurrent_golden(name)
    with Runner(path, device, **options) as runner:
        runs = [runner.forward(tokens[:20])]
        runs += [runner.forward(tokens[i : i + 1], i) for i in range(20, 28)]
    return nmse(np.concatenate(runs)[-16:], expected)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", RECURRENT_VARIANTS)
def test_logits_are_those_of_llama_cpp(
    files: Callable[[str], Path], name: str, device: str
) -> None:
    assert error(files(name), name, device) <= MAX_NMSE


def _change(op: str, **attrs: Any) -> Callable[[Graph], Graph]:
    """An edit that sets attributes of all nodes of one operation."""

    def edit(graph: Graph) -> Graph:
        nodes = tuple(
            dataclasses.replace(n, attrs={**n.attrs, **attrs}) if n.op == op else n
            for n in graph.nodes
        )
        assert any(node.op == op for node in nodes)
        return dataclasses.replace(graph, nodes=nodes)

    return edit


WRONG = {
    "activation of the convolution": ("mamba2-heads", _change("causal_conv", act="")),
    "bias of the convolution": ("mamba2-heads", _change("causal_conv", bias=None)),
    "bias of steps": ("granitehybrid-scales", _change("ssm_scan", step_bias=None)),
    "what passes by the state": ("plamo2-heads", _change("ssm_scan", d=None)),
    "norm over groups": ("mamba2-heads", _change("rms_norm", group=256)),
    "pairs of rope": ("falcon-h1-heads", _change("rope", kind="norm")),
    "window": ("lfm2-windows", _change("attention", window=9)),
    "experts' weights": ("jamba-experts", _change("experts", norm=True)),
    "factor of experts": ("nemotron_h_moe-latent", _change("experts", factor=1.0)),
    "experts' scales": ("nemotron_h_moe-latent", _change("experts", scales=(None,) * 3)),
    "gating": ("lfm2moe-softmax", _change("experts", gating="sigmoid")),
    "square of the network": ("nemotron_h-network", _change("activation", act="relu")),
    "gate's activation": ("minimax-01-heads", _change("activation", act="sigmoid")),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Callable[[str], Path], what: str) -> None:
    name, edit = WRONG[what]
    assert error(files(name), name, edit=edit) > WRONG_NMSE


def test_a_wrong_decay_is_seen(
    files: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decays, name = minimax_01.decays, "minimax-01-heads"
    monkeypatch.setattr(minimax_01, "decays", lambda heads, i, n: decays(heads, i, n + 1))
    assert error(files(name), name) > WRONG_NMSE


@pytest.mark.parametrize(
    "name", ["mamba-normed", "jamba-experts", "falcon-h1-heads", "lfm2-windows", "minimax-01-heads"]
)
def test_bits_depend_on_the_tokens_alone(files: Callable[[str], Path], name: str) -> None:
    tokens, _ = recurrent_golden(name)
    with Runner(files(name), "cpu", max_tokens=28, n_threads=1) as runner:
        whole = runner.forward(tokens)
    for max_tokens, n_threads in ((1, 1), (5, 2), (28, 2)):
        with Runner(files(name), "cpu", max_tokens=max_tokens, n_threads=n_threads) as runner:
            assert np.array_equal(runner.forward(tokens), whole)


def test_a_sequence_starts_from_nothing(files: Callable[[str], Path]) -> None:
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
