"""Whole models on the CUDA backend, in the simulator where there is no device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, nmse, simulate_cuda
from logits import last_logits, logits_error
from models import model_path
from numpy.typing import NDArray
from quantized import quantized_copy
from tiny import conformance_golden, conformance_model, conformance_names

import jitllm
from jitllm.kernels.cache_types import QUANTIZED

MAX_NMSE, MAX_NMSE_FAST = 1e-6, 1e-3
# One of every kind; the slow test has all of them.
SOME = (
    "llama-dense.gqa", "gemma2-dense", "bloom-dense", "deepseek2-moe.routed", "mamba-dense",
    "qwen3next-moe.routed",
)  # fmt: skip
SOME_FAST = ("llama-dense.gqa", "gpt-oss-moe.routed")
Logits = NDArray[np.float32]


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Path of a model of the conformance set."""
    return lambda name: conformance_model(name, tmp_path / "model.gguf")


def _error(path: Path, name: str, **options: Any) -> float:
    return logits_error(path, conformance_golden(name), "cuda", **options)


@pytest.mark.parametrize("name", SOME)
def test_some_architectures(file: Callable[[str], Path], name: str) -> None:
    assert _error(file(name), name) <= MAX_NMSE


@pytest.mark.parametrize("name", SOME_FAST)
def test_some_architectures_fast(file: Callable[[str], Path], name: str) -> None:
    assert 0 < _error(file(name), name, precision="fast", kv_dtype="f16") <= MAX_NMSE_FAST


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(conformance_names()))
def test_all_architectures(file: Callable[[str], Path], name: str) -> None:
    path = file(name)
    assert _error(path, name) <= MAX_NMSE
    assert _error(path, name, precision="fast", kv_dtype="f16") <= MAX_NMSE_FAST


def _near_the_cpu(path: Path, tokens: NDArray[np.int32], **options: Any) -> float:
    return nmse(*(last_logits(path, tokens, device, **options) for device in ("cuda", "cpu")))


@pytest.mark.parametrize("kv_dtype, precision", [
    ("q8_0", "fast"),
    *(pytest.param(kind, precision, marks=pytest.mark.slow)
      for kind in (*QUANTIZED, "q8_0/f16") for precision in ("exact", "fast")
      if (kind, precision) != ("q8_0", "fast")),
])  # fmt: skip
def test_quantized_caches_are_those_of_the_cpu(
    file: Callable[[str], Path], kv_dtype: str, precision: str
) -> None:
    (tokens, _), path = conformance_golden("llama-dense.gqa"), file("llama-dense.gqa")
    found = _near_the_cpu(path, tokens, kv_dtype=kv_dtype, precision=precision)
    assert found < {"exact": 1e-10, "fast": 1e-4}[precision]


@pytest.mark.parametrize("name, type_name, bound", [  # of what int8 changes, a small part
    ("llama-dense.gqa", "Q8_0", 1e-5),
    pytest.param("llama-dense.gqa", "Q4_1", 1e-5, marks=pytest.mark.slow),
    pytest.param("qwen2moe-moe.routed", "Q4_0", 1e-5, marks=pytest.mark.slow),
    pytest.param("gpt-oss-moe.routed", "MXFP4", 1e-4, marks=pytest.mark.slow),
])  # fmt: skip
def test_int8_products_are_those_of_the_cpu(
    file: Callable[[str], Path], tmp_path: Path, name: str, type_name: str, bound: float
) -> None:
    tokens, _ = conformance_golden(name)
    path = quantized_copy(file(name), tmp_path / "q.gguf", type_name)
    assert 0 < _near_the_cpu(path, tokens, precision="fast") < bound


def test_long_contexts_are_cut_into_parts(file: Callable[[str], Path]) -> None:
    """More pages than parts, for one row and for several: the attention of parts, then of none."""
    path, tokens = file("llama-dense.gqa"), np.arange(700, dtype=np.int32) * 37 % 100
    runs = dict[str, Logits]()
    for device in ("cuda", "cpu"):
        with Runner(path, device, "fast", "f16", n_ctx=1024, max_tokens=256) as runner:
            runner.forward(tokens[:640])
            ends = (640, 641, 650, 690, 700)
            runs[device] = np.concatenate([
                runner.forward(tokens[a:b], a) for a, b in zip(ends[:-1], ends[1:], strict=True)
            ])  # fmt: skip
    assert 0 < nmse(runs["cuda"], runs["cpu"]) < 1e-6


@pytest.mark.parametrize("name, options", [
    ("gemma2-dense", {}),
    ("gemma2-dense", {"precision": "exact", "kv_dtype": "q8_0/q4_0"}),
    ("deepseek2-moe.routed", {"kv_dtype": "f32"}),
    ("qwen3next-moe.routed", {"n_ctx": 100}),
])  # fmt: skip
def test_loading_allocates_what_was_planned(
    file: Callable[[str], Path], name: str, options: dict[str, Any]
) -> None:
    path = file(name)
    asked: dict[str, Any] = {"n_ctx": 300, "device": "cuda"} | options
    (share,) = jitllm.plan(path, **asked).shares
    with jitllm.load(path, progress=False, **asked) as model:
        memory = model.memory()
    planned = {"weights": share.weights, "caches": share.pool, "buffers": share.compute}
    assert memory == {**planned, "caches_used": 0}


@pytest.mark.slow
@pytest.mark.parametrize("kv_dtype", ["f16", "q8_0"])
def test_ids_of_smollm2_are_those_of_the_cpu(kv_dtype: str) -> None:
    ids = list[Any]()
    for device in ("cuda", "cpu"):
        options: dict[str, Any] = {"device": device, "kv_dtype": kv_dtype, "n_ctx": 256}
        with jitllm.load(model_path("smollm2"), progress=False, **options) as model:
            prompt = "Photosynthesis is the process by which"
            ids.append(model.generate(prompt, max_tokens=8, temperature=0.0).token_ids)
    assert ids[0] == ids[1]
