"""LoRA adapters against models whose matrices have the products inside."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from driver import devices
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model, write_gguf
from variants import lora as lora_files
from variants.written import written_model

import jitllm
from jitllm.kernels import formats
from jitllm.llm import cli
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.split import split
from jitllm.llm.lora import LoraAdapter
from jitllm.llm.lora_graph import Factors, adaptable
from jitllm.llm.lora_merge import merge

LLAMA_CPP = np.load(Path(__file__).parents[1] / "data" / "lora.npz")  # see lora_files.py

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
            behind = weights.get(f"{target}.scale", np.ones(1, np.float32))
            weights[name] = weights[name] + np.float32(scale) / behind * product
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
        ({}, {"x.lora_a": _X, "x.lora_b": _X.T * np.nan}, "'x.lora_b': expected finite"),
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
        (LoraAdapter("llama", 1.0, {"token_embd.weight": wrong}), 1.0, r"shapes \(128, 3\)"),
        (LoraAdapter("llama", 1.0, {"token_types.weight": wrong}), 1.0, "got one of 'token_types"),
        (LoraAdapter("llama", 1.0, {name: wrong}), 1.0, r"got .*\(5, .*for another model"),
    ]
    with _load(base) as model:
        graph, before = model.engine.graph, model.forward(TOKENS)
        for adapter, scale, message in cases:
            with pytest.raises(ValueError, match=message), adapter.applied(model, scale=scale):
                pass
        assert model.engine.graph is graph
        attached = LoraAdapter("llama", 1.0, factors).attach(model)
        with_it = model.forward(TOKENS)
        with pytest.raises(ValueError, match="for another model"):
            attached.replace(cases[-1][0])
        assert np.array_equal(model.forward(TOKENS), with_it)
        attached.detach()
        assert np.array_equal(model.forward(TOKENS), before)
        with pytest.raises(ValueError, match="was detached"):
            attached.replace(LoraAdapter("llama", 1.0, factors))


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", lora_files.NAMES)
def test_logits_of_llama_cpp(name: str, device: str, tmp_path: Path) -> None:
    path = lora_files.model_file(name, tmp_path)
    expected = LLAMA_CPP[f"{name}/rows"]
    with _load(path, device) as model:
        tokens = lora_files.tokens(name, model.n_vocab)
        assert tokens == LLAMA_CPP[f"{name}/tokens"].tolist()
        for i in range(3):
            if i:
                adapter = lora_files.adapter(path, i - 1)
                adapter.attach(model, scale=lora_files.SCALES[i - 1])
            rows = model.forward(tokens)[-lora_files.ROWS :]
            # llama.cpp has its activations of encoders in tables of half precision
            assert _nmse(rows, expected[i]) < (1e-6 if model.engine.graph.is_encoder else 1e-9)
    assert min(_nmse(expected[0], expected[1]), _nmse(expected[1], expected[2])) > 1e-3


def _nmse(rows: Array, expected: Array) -> float:
    return float(((rows - expected) ** 2).sum() / (expected**2).sum())


@pytest.mark.parametrize("device", devices())
def test_changes_between_tokens(device: str) -> None:
    path = model_path("stories260K")
    first, second = (lora_files.adapter(path, i) for i in (0, 1))
    tokens = lora_files.tokens("stories260K", 512)

    def after(model: jitllm.Model, sequence: jitllm.Sequence, token: int) -> Array:
        sequence.append([token])
        return np.array(sequence.logits)

    with _load(path, device) as model:
        plain = model.forward(tokens[:6])
        sequence = model.sequence(tokens[:5])
        kept = sequence.fork()
        attached = first.attach(model, scale=0.5)
        mixed = after(model, sequence, tokens[5])  # old keys and values, new products
        assert not np.allclose(mixed, plain[5], atol=0.01)
        attached.scale = 0.0
        zero = after(model, kept.fork(), tokens[5])
        assert zero == pytest.approx(plain[5], abs=1e-5)
        attached.scale = 0.5
        assert np.array_equal(after(model, kept.fork(), tokens[5]), mixed)
        attached.replace(second, scale=2.0)
        replaced = after(model, kept.fork(), tokens[5])
        assert (attached.adapter, attached.scale) == (second, 2.0)
        attached.detach()
        attached.detach()
        with second.applied(model, scale=2.0):
            assert np.array_equal(after(model, kept.fork(), tokens[5]), replaced)
            assert repr(attached).endswith("scale 2, detached>")
        assert np.array_equal(after(model, kept.fork(), tokens[5]), plain[5])
        with pytest.raises(ValueError, match="finite scale"):
            attached.scale = float("inf")


def test_changes_inside_a_generation(stories: jitllm.Model) -> None:
    adapter = lora_files.adapter(model_path("stories260K"), 0)
    plain = stories.generate("Once upon a time", temperature=0, max_tokens=12)
    ids, attached = list[int](), None
    for chunk in stories.stream("Once upon a time", temperature=0, max_tokens=12):
        ids += [] if chunk.token_id is None else [chunk.token_id]
        if len(ids) == 4:
            attached = adapter.attach(stories)
    assert attached is not None
    attached.detach()
    assert ids[:4] == plain.token_ids[:4]
    assert ids != plain.token_ids
    assert stories.generate("Once upon a time", temperature=0, max_tokens=12).text == plain.text


def test_memory_comes_back_and_hooks_may_change_scales(base: Path) -> None:
    adapter = lora_files.adapter(base, 0)
    with _load(base, "cpu") as model:
        attached = adapter.attach(model)
        held = model.engine.memory()["weights"]
        for _ in range(3):
            attached.replace(adapter)
        assert model.engine.memory()["weights"] <= 1.05 * held
        whole = model.forward(TOKENS)
        seen: list[Any] = []

        def quieter(activation: Array, hook: Any) -> None:
            attached.scale = 0.0
            seen.append(activation.copy())

        changed = model.run_with_hooks(TOKENS, {"blk.1.attn_norm": quieter})
        assert seen and not np.allclose(changed, whole)
        with pytest.raises(jitllm.HookError):
            model.run_with_hooks(TOKENS, {"blk.0.attn_norm": lambda a, h: attached.detach()})
        attached.detach()
        assert model.engine.memory()["weights"] < held
        assert model.forward(TOKENS) is not None
        last = adapter.attach(model)
    last.detach()  # the model is closed: nothing to do


def test_kinds_of_segments(tmp_path: Path) -> None:
    path = lora_files.model_file("jina-bert-v3", tmp_path)
    with GGUFFile(path) as file:
        shape = file.tensors["token_types.weight"].shape
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, shape[1])), rng.normal(size=(shape[0], 2))
    factors = Factors(a.astype(np.float32), b.astype(np.float32))
    made = {**lora_files.adapter(path, 0).factors, "token_types.weight": factors}
    adapter = LoraAdapter("jina-bert-v3", 4.0, made, "retrieval.query", "query: ")
    adapter.save(tmp_path / "task.gguf")
    adapter = LoraAdapter.load(tmp_path / "task.gguf")
    assert (adapter.task_name, adapter.prompt_prefix) == ("retrieval.query", "query: ")
    assert repr(adapter).startswith("<LoraAdapter 'retrieval.query' for jina-bert-v3: ")
    merge(path, tmp_path / "merged.gguf", [(adapter, 0.5)])
    tokens = [3, 7, 9, 4]
    for device in ("reference", "cpu"):
        with _load(tmp_path / "merged.gguf", device) as model:
            expected, vector = model.forward(tokens), model.embed(tokens)
        with _load(path, device) as model, adapter.applied(model, scale=0.5):
            assert model.forward(tokens) == pytest.approx(expected, abs=1e-4)
            assert model.embed(tokens) == pytest.approx(vector, abs=1e-5)
            unlike = LoraAdapter("jina-bert-v3", 4.0, lora_files.adapter(path, 0).factors)
        with _load(path, device) as model, unlike.applied(model, scale=0.5):
            assert not np.allclose(model.forward(tokens), expected, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["llama-moe.routed", "llama4-moe.routed", "grovemoe-moe", "qwen3next-moe.routed",
             "gemma3-dense.gqa", "falcon-dense"]
)  # fmt: skip
def test_merged_files(name: str, tmp_path: Path) -> None:
    path = conformance_model(name, tmp_path / "base.gguf")
    first, second = (lora_files.adapter(path, i) for i in (0, 1))
    known = {tensor for node in _graph(path).nodes for tensor in adaptable(node)}
    adapters = [(dataclasses.replace(adapter, factors={
        tensor: factors for tensor, factors in adapter.factors.items() if tensor in known
    }), scale) for adapter, scale in ((first, 0.5), (second, -1.0))]  # fmt: skip
    target = merge(path, tmp_path / "merged.gguf", adapters)
    for device in ("reference", "cpu"):
        with _load(target, device) as model:
            expected = model.forward(TOKENS)
        with _load(path, device) as model:
            plain = model.forward(TOKENS)
            for adapter, scale in adapters:
                adapter.attach(model, scale=scale)
            assert _nmse(model.forward(TOKENS), expected) < 1e-8
            single = model.sequence(TOKENS[:-1])
            single.append(TOKENS[-1:])
            assert _nmse(np.array(single.logits), expected[-1]) < 1e-8
    assert _nmse(plain, expected) > 1e-3


def test_an_encoder_and_its_decoder(tmp_path: Path) -> None:
    path = written_model("t5", tmp_path / "base.gguf")
    with GGUFFile(path) as file:
        made = {name: lora_files.factors(name, info.shape, 3) for name, info in file.tensors.items()
                if name.endswith(("attn_q.weight", "attn_v.weight", "ffn_up.weight"))}  # fmt: skip
    assert {name.partition(".")[0] for name in made} == {"enc", "dec"}
    adapter = LoraAdapter("t5", 0.0, made)
    merge(path, tmp_path / "merged.gguf", [(adapter, 0.5)])
    for device in ("reference", "cpu"):
        with _load(tmp_path / "merged.gguf", device) as model:
            expected = model.forward([0, 9, 8], source=TOKENS)
        with _load(path, device) as model:
            plain = model.forward([0, 9, 8], source=TOKENS)
            with adapter.applied(model, scale=0.5):
                assert _nmse(model.forward([0, 9, 8], source=TOKENS), expected) < 1e-8
            assert np.array_equal(model.forward([0, 9, 8], source=TOKENS), plain)
    assert _nmse(plain, expected) > 1e-3


def _graph(path: Path) -> Any:
    with _load(path) as model:
        return model.engine.graph


def test_types_and_metadata_of_merged_files(tmp_path: Path) -> None:
    base, name = model_path("stories260K"), "blk.0.ffn_up.weight"
    small = tmp_path / "small.gguf"
    jitllm.quantize(base, small, "Q8_0", progress=False, requantize=True)
    adapter = lora_files.adapter(base, 0)
    parts = split(small, tmp_path / "part", max_tensors=20)
    half = merge(parts[0].path, tmp_path / "half.gguf", [(adapter, 1.0)])
    same = merge(small, tmp_path / "same.gguf", [(adapter, 1.0)], keep_types=True)
    with GGUFFile(half) as file, GGUFFile(small) as before:
        assert {i.type_name for n, i in file.tensors.items() if n in adapter.factors} <= {
            "F16",
            "F32",
        }
        assert file.get("general.file_type", int) == 1
        assert not any(key.startswith("split.") for key in file.metadata)
        for tensor in file.tensors.keys() - adapter.factors.keys():
            assert np.array_equal(file.data(tensor), before.data(tensor))
        info = file.tensors[name]
        factors = adapter.factors[name]
        values = formats.dequantize("F16", file.data(name), info.shape)
        expected = formats.dequantize("Q8_0", before.data(name), info.shape)
        merged = expected + adapter.alpha / 3 * factors.b @ factors.a
        assert values == pytest.approx(merged, rel=1e-3, abs=1e-3)
    with GGUFFile(same) as file, GGUFFile(small) as before:
        assert [i.type_name for i in file.tensors.values()] == [
            i.type_name for i in before.tensors.values()
        ]
    for wrong, message in (
        (([], base), "got none"),
        (([(adapter, float("nan"))], base), "finite scale"),
        (([(adapter, 1e9)], small), "F16 can hold"),
        (([(dataclasses.replace(adapter, architecture="qwen2"), 1.0)], base), "'qwen2'"),
        (([(LoraAdapter("llama", 0.0, {"x": adapter.factors[name]}), 1.0)], base), "'x'"),
        (([(LoraAdapter("llama", 0.0, {"output_norm.weight": adapter.factors[name]}), 1.0)], base),
         "another model"),
    ):  # fmt: skip
        adapters, source = wrong
        with pytest.raises(ValueError, match=message):
            merge(source, tmp_path / "wrong.gguf", adapters)
    with pytest.raises(ValueError, match="other than the source"):
        merge(small, small, [(adapter, 1.0)])
    assert not (tmp_path / "wrong.gguf").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = model_path("stories260K"), tmp_path / "out.gguf"
    for i in (0, 1):
        lora_files.adapter(path, i).save(tmp_path / f"{i}.gguf")
    given = ["--lora", str(tmp_path / "0.gguf"), "--lora-scaled", f"{tmp_path / '1.gguf'}:-0.5"]
    assert cli.main(["lora", str(path), str(out), *given]) == 0
    assert capsys.readouterr().out == f"{out}: 2 adapters merged\n"
    with _load(out) as model:
        expected = model.forward(TOKENS)
    with _load(path) as model:
        for i, scale in enumerate((1.0, -0.5)):
            lora_files.adapter(path, i).attach(model, scale=scale)
        assert _nmse(model.forward(TOKENS), expected) < 1e-8
    capsys.readouterr()
    greedy = ["Once upon", "--temp", "0", "-n", "12", "-q", "--precision", "exact"]
    assert cli.main(["run", str(out), *greedy]) == 0
    merged = capsys.readouterr().out
    assert cli.main(["run", str(path), *greedy, *given]) == 0
    assert capsys.readouterr().out == merged
    assert cli.main(["run", str(path), *greedy]) == 0
    assert capsys.readouterr().out != merged
    assert cli.main(["lora", str(path), str(out)]) == cli.USAGE
    for wrong in ("a.gguf", "a.gguf:x", ":1"):
        assert cli.main(["lora", str(path), str(out), "--lora-scaled", wrong]) == cli.USAGE
