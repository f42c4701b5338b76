"""LoRA adapters against models whose matrices have the products inside."""

import logging
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from driver import devices
from numpy.typing import NDArray
from tiny import conformance_model, write_gguf

import jitllm
from jitllm.llm.lora import LoraAdapter

TOKENS = [5, 9, 3, 17, 30, 2, 11]
TARGETS = ("blk.0.attn_q", "blk.0.attn_v", "blk.1.attn_output", "blk.1.ffn_gate",
           "blk.1.ffn_down", "output")  # fmt: skip
_KEYS = ("context_length", "embedding_length", "feed_forward_length", "block_count",
         "attention.head_count", "attention.head_count_kv",
         "attention.layer_norm_rms_epsilon", "rope.dimension_count")  # fmt: skip
ADAPTER = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 6.0}
Array = NDArray[Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with float32 weights."""
    return conformance_model("llama-dense", tmp_path_factory.mktemp("lora") / "base.gguf")


def _weights(path: Path) -> dict[str, Array]:
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def _factors(path: Path, rank: int, seed: int) -> dict[str, Array]:
    rng, weights, made = np.random.default_rng(seed), _weights(path), {}
    for target in TARGETS:
        n_out, n_in = weights[f"{target}.weight"].shape
        made[f"{target}.weight.lora_a"] = rng.normal(size=(rank, n_in)).astype(np.float32) * 0.3
        made[f"{target}.weight.lora_b"] = rng.normal(size=(n_out, rank)).astype(np.float32) * 0.3
    return made


def _merged(path: Path, added: list[tuple[dict[str, Array], float]], into: Path) -> Path:
    fields = gguf.GGUFReader(path).fields
    metadata = {f"llama.{key}": fields[f"llama.{key}"].contents()
                for key in _KEYS if f"llama.{key}" in fields}  # fmt: skip
    weights = _weights(path)
    for factors, scale in added:
        for target in TARGETS:
            name = f"{target}.weight"
            product = factors[f"{name}.lora_b"] @ factors[f"{name}.lora_a"]
            weights[name] = weights[name] + np.float32(scale) * product
    return write_gguf(into, metadata, weights)


def _logits(path: Path, device: str) -> Array:
    with _load(path, device) as model:
        return model.forward(TOKENS)


def _load(path: Path, device: str = "reference") -> jitllm.Model:
    return jitllm.load(path, device=device, precision="exact", kv_dtype="f32", progress=False)


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("alpha", [6.0, 0.0])
def test_an_adapter_is_what_the_merged_model_is(
    base: Path, tmp_path: Path, device: str, alpha: float
) -> None:
    factors = _factors(base, 3, 7)
    adapter = LoraAdapter.load(
        write_gguf(tmp_path / "a.gguf", {**ADAPTER, "adapter.lora.alpha": alpha}, factors)
    )
    scale = 0.5 * (alpha / 3 if alpha else 1.0)
    merged = _logits(_merged(base, [(factors, scale)], tmp_path / "merged.gguf"), device)
    with _load(base, device) as model:
        plain = model.forward(TOKENS)
        with adapter.applied(model, scale=0.5) as same:
            assert same is model
            assert model.forward(TOKENS) == pytest.approx(merged, abs=2e-4)
        assert np.array_equal(model.forward(TOKENS), plain)
    assert not np.allclose(plain, merged, atol=0.05)


def test_two_adapters(base: Path, tmp_path: Path) -> None:
    both = [_factors(base, rank, rank) for rank in (2, 3)]
    adapters = [LoraAdapter.load(write_gguf(tmp_path / f"{i}.gguf", ADAPTER, factors))
                for i, factors in enumerate(both)]  # fmt: skip
    added = [(both[0], 6 / 2), (both[1], -0.25 * 6 / 3)]
    merged = _logits(_merged(base, added, tmp_path / "merged.gguf"), "reference")
    with _load(base) as model, adapters[0].applied(model):
        with adapters[1].applied(model, scale=-0.25):
            assert model.forward(TOKENS) == pytest.approx(merged, abs=1e-3)
    assert repr(adapters[0]) == "<LoraAdapter for llama: 6 matrices, rank 2, alpha 6>"


def test_half_precision_and_norms(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    factors: dict[str, Array] = {
        name: array.astype(np.float16) for name, array in _factors(base, 3, 7).items()
    }
    norm: dict[str, Array] = {"blk.0.attn_norm.weight": np.ones(8, np.float32)}
    with caplog.at_level(logging.WARNING, "jitllm.lora"):
        adapter = LoraAdapter.load(write_gguf(tmp_path / "a.gguf", ADAPTER, factors | norm))
    assert "blk.0.attn_norm.weight" in caplog.text
    name = "blk.1.ffn_down.weight"
    assert adapter.factors.keys() == {f"{target}.weight" for target in TARGETS}
    assert np.array_equal(adapter.factors[name].a, factors[f"{name}.lora_a"].astype(np.float32))
    assert np.array_equal(adapter.factors[name].b, factors[f"{name}.lora_b"].astype(np.float32))


_X = np.zeros((2, 32), np.float32)


@pytest.mark.parametrize(
    ("metadata", "tensors", "message"),
    [
        ({"general.type": "model"}, {}, "expected general.type 'adapter'"),
        ({"adapter.type": "control"}, {}, "and adapter.type 'lora'"),
        ({"adapter.lora.alpha": float("inf")}, {"x.lora_a": _X}, "a finite adapter.lora.alpha"),
        ({"adapter.alora.invocation_tokens": np.ones(2, np.uint32)}, {}, "certain tokens"),
        ({}, {}, r"tensors \*.lora_a and \*.lora_b, got none"),
        ({}, {"x.weight": _X}, "got 'x.weight'"),
        ({}, {"x.lora_a": _X}, "'x.lora_b'"),
        ({}, {"x.lora_a": _X, "x.lora_b": np.zeros((32, 3), "f4")}, r"matrices \(rank, K\)"),
        ({}, {"x.lora_a": _X[0], "x.lora_b": _X}, r"matrices \(rank, K\)"),
    ],
)
def test_files_that_hold_none(
    tmp_path: Path, metadata: dict[str, Any], tensors: dict[str, Array], message: str
) -> None:
    path = write_gguf(tmp_path / "a.gguf", {**ADAPTER, **metadata}, tensors)
    with pytest.raises(jitllm.GGUFError, match=message):
        LoraAdapter.load(path)


def test_types_without_a_format(tmp_path: Path) -> None:
    tensors = {"x.lora_a": _X.astype(np.int32), "x.lora_b": _X.T.copy()}
    path = write_gguf(tmp_path / "a.gguf", ADAPTER, tensors)
    with pytest.raises(jitllm.UnsupportedFormat, match="'x.lora_a'"):
        LoraAdapter.load(path)


def test_models_that_it_is_not_for(base: Path, tmp_path: Path) -> None:
    factors = LoraAdapter.load(
        write_gguf(tmp_path / "a.gguf", ADAPTER, _factors(base, 3, 7))
    ).factors
    name = "blk.0.attn_q.weight"
    wrong = factors[name]._replace(b=np.zeros((5, 3), np.float32))
    cases = [
        (LoraAdapter("qwen2", 1.0, factors), 1.0, "architecture 'qwen2'"),
        (LoraAdapter("llama", 1.0, factors), float("nan"), "expected a finite scale"),
        (LoraAdapter("llama", 1.0, {"blk.9.attn_q.weight": wrong}), 1.0, "got one of 'blk.9"),
        (LoraAdapter("llama", 1.0, {"token_embd.weight": wrong}), 1.0, "those of embeddings"),
        (LoraAdapter("llama", 1.0, {name: wrong}), 1.0, r"got \(5, .*for another model"),
    ]
    with _load(base) as model:
        for adapter, scale, message in cases:
            with pytest.raises(ValueError, match=message), adapter.applied(model, scale=scale):
                pass
