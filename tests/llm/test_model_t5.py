"""T5: encoder and decoder, what sequences keep of the encoder's text, and the encoder alone."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import devices, nmse
from logits import MAX_NMSE, WRONG_NMSE, Files, change
from variants.written import START, written_golden, written_model

import jitllm
from jitllm.backends.ir import Graph
from jitllm.llm import models
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ContextLengthExceeded, ModelFormatError, UnsupportedArchitecture
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.model import Model
from jitllm.llm.models import _t5

NAMES = ["t5", "t5.gated"]
EXACT: dict[str, Any] = {"precision": "exact", "kv_dtype": "f32"}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a model, written once."""
    folder = tmp_path_factory.mktemp("t5")
    paths = {name: written_model(name, folder / f"{name}.gguf") for name in [*NAMES, "t5encoder"]}
    return paths.__getitem__


@pytest.fixture(scope="module")
def model(files: Files) -> Iterator[Model]:
    """The gated model on the processor."""
    with jitllm.load(files("t5.gated"), **EXACT) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def golden() -> dict[str, list[int]]:
    """Tokens that go with `model`."""
    data = written_golden("t5.gated")
    return {key: data[key].tolist() for key in ("source", "tokens", "greedy")}


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_others(files: Files, name: str, device: str) -> None:
    data = written_golden(name)
    with jitllm.load(files(name), device=device, **EXACT) as model:
        model.forward([START], source=[1])
        whole = model.forward(data["tokens"].tolist(), source=data["source"].tolist())
        with model.sequence(data["source"].tolist()) as sequence:
            sequence.append(data["tokens"][1:132].tolist())
            single = [sequence.append([token]).logits for token in data["tokens"][132:].tolist()]
    assert nmse(whole[-16:], data["logits"]) <= MAX_NMSE
    assert nmse(whole[-16:], data["transformers"]) <= 1e-10
    assert nmse(np.stack(single), whole[-8:]) <= 1e-12


@pytest.mark.parametrize("device", devices())
def test_hidden_states_of_an_encoder_alone(files: Files, device: str) -> None:
    data = written_golden("t5encoder")
    tokens = data["tokens"].tolist()
    with jitllm.load(files("t5encoder"), device=device, **EXACT) as model:
        assert nmse(model.forward(tokens), data["states"]) <= MAX_NMSE
        assert nmse(model.embed(tokens, normalize=False), data["mean"]) <= MAX_NMSE


WRONG = {
    "scale of scores": change("attention", scale=24**-0.5),
    "activation": change("glu", act="gelu_quick"),
    "epsilon": change("rms_norm", eps=1e-3),
    "distances": change("attention", table=None),
}


def _error(files: Files, edit: Callable[[Graph], Graph]) -> float:
    data = written_golden("t5.gated")
    build = models.get("t5")

    def changed(g: GraphBuilder, config: ModelConfig) -> None:
        build(g, config)
        original = g.build
        g.build = lambda: edit(original())  # type: ignore[method-assign]

    models.register_architecture("t5")(changed)
    try:
        with jitllm.load(files("t5.gated"), device="reference", **EXACT) as model:
            whole = model.forward(data["tokens"].tolist(), source=data["source"].tolist())
    finally:
        del models._registered["t5"]
    return nmse(whole[-16:], data["logits"])


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    assert _error(files, WRONG[what]) > WRONG_NMSE


@pytest.mark.parametrize("causal", [True, False])
def test_wrong_buckets_are_seen(
    files: Files, monkeypatch: pytest.MonkeyPatch, causal: bool
) -> None:
    right = _t5.buckets

    def wrong(n_buckets: int, *, causal: bool) -> Any:
        return np.minimum(right(n_buckets, causal=causal), 30 if causal is wrong_for else 31)

    wrong_for = causal
    monkeypatch.setattr(_t5, "buckets", wrong)
    assert _error(files, lambda graph: graph) > WRONG_NMSE


def test_buckets() -> None:
    behind = _t5.buckets(32, causal=True)[: _t5.MAX_DISTANCE + 1][::-1]
    np.testing.assert_array_equal(behind[:17], range(17))
    assert behind[18] == 16 and behind[19] == 17 and behind[112] == 30 and behind[113] == 31
    assert set(_t5.buckets(32, causal=True)[_t5.MAX_DISTANCE :]) == {0}
    both = _t5.buckets(32, causal=False)
    assert both[_t5.MAX_DISTANCE] == 0 and both[0] == 15 and both[-1] == 31
    np.testing.assert_array_equal(both[129:], both[:128][::-1] + 16)


@pytest.mark.parametrize("name", NAMES)
def test_generation_is_that_of_llama_cpp(files: Files, name: str) -> None:
    data = written_golden(name)
    with jitllm.load(files(name), **EXACT) as model:
        result = model.generate(data["source"].tolist(), **GREEDY)
    assert result.token_ids == data["greedy"].tolist()
    assert result.prompt_token_ids == data["source"].tolist()


def test_text_in_text_out(model: Model) -> None:
    result = model.generate("the cat sings", **GREEDY)
    ids = model.tokenize("the cat sings")
    assert ids[-1] == 1 and result.prompt_token_ids == ids
    assert result.token_ids == model.generate(ids, **GREEDY).token_ids
    assert result.text == model.detokenize(result.token_ids).strip() != ""
    pieces = [chunk.text for chunk in model.stream("the cat sings", **GREEDY)]
    assert "".join(pieces) == result.text


def test_several_results_are_those_of_single_ones(model: Model) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 12}
    several = model.generate(["a cat", "the hat"], n=2, seed=5, **options)
    assert isinstance(several, list)
    single = [
        model.generate(text, seed=seed, **options).token_ids
        for text in ("a cat", "the hat")
        for seed in (5, 6)
    ]
    assert [one.token_ids for one in several] == single
    assert single[0] != single[1] and single[0] != single[2]


def test_forks_share_what_the_encoder_left(model: Model, golden: dict[str, list[int]]) -> None:
    used = model.memory()["caches_used"]
    with model.sequence(golden["source"]) as sequence:
        before = sequence.logits
        alone = model.memory()["caches_used"]
        with sequence.fork() as twin:
            assert model.memory()["caches_used"] == alone
            twin.append(golden["tokens"][1:20])
            expected = twin.logits
            sequence.encode("another text")  # leaves the fork as it is
            assert not np.array_equal(sequence.logits, before)
            twin.truncate(1)
            np.testing.assert_array_equal(twin.logits, before)
            twin.append(golden["tokens"][1:20])
            np.testing.assert_array_equal(twin.logits, expected)
            assert twin.source_ids == golden["source"]
    assert model.memory()["caches_used"] == used


def test_memory_of_a_forgotten_sequence_comes_back(model: Model) -> None:
    gc.collect()
    used = model.memory()["caches_used"]
    sequence = model.sequence("the cat")
    assert sequence.logits.shape == (128,) and model.memory()["caches_used"] > used
    assert sequence.token_ids == [START]
    del sequence
    gc.collect()
    assert model.memory()["caches_used"] == used


def test_sequence_goes_on_after_a_text(model: Model, golden: dict[str, list[int]]) -> None:
    with model.sequence(golden["source"]) as sequence:
        first = sequence.generate(temperature=0.0, max_tokens=10)
        second = sequence.generate(temperature=0.0, max_tokens=14)
    assert first.token_ids + second.token_ids == golden["greedy"]


def test_bits_do_not_depend_on_cuts(files: Files, model: Model) -> None:
    source, tokens = list(range(3, 100)), [START, *range(5, 120)]
    with jitllm.load(files("t5.gated"), n_threads=1) as fast:
        whole = fast.forward(tokens, source=source)
        with fast.sequence() as sequence:
            sequence.read_source(source)
            parts = [sequence.append([token]).logits for token in tokens]
    np.testing.assert_array_equal(np.stack(parts), whole)


def test_hooks_reach_both_graphs(model: Model, golden: dict[str, list[int]]) -> None:
    names = ["enc.output_norm", "enc.blk.1.kqv_out.pattern", "blk.1.cross_kqv_out.pattern"]
    names += ["blocks.1.hook_resid_post"]
    tokens = golden["tokens"][:9]
    logits, cache = model.run_with_cache(tokens, names, source=golden["source"])
    plain = model.forward(tokens, source=golden["source"])
    np.testing.assert_array_equal(logits, plain)
    assert cache["blk.1.cross_kqv_out.pattern"].shape == (4, 9, 150)
    np.testing.assert_allclose(cache["enc.blk.1.kqv_out.pattern"].sum(-1), 1, rtol=1e-5)
    mean = model.embed(golden["source"], normalize=False)
    np.testing.assert_allclose(mean, cache["enc.output_norm"].mean(0), rtol=1e-4, atol=1e-6)

    def silence(values: Any, hook: Any) -> None:
        values[...] = 0

    with model.hooks({"enc.output_norm": silence}):
        changed = model.forward(tokens, source=golden["source"])
    assert nmse(changed, plain) > WRONG_NMSE
    assert "blk.0.cross_cells" not in model.hook_points().names()


def test_log_likelihood_of_an_answer(model: Model, golden: dict[str, list[int]]) -> None:
    answer = golden["greedy"][:6]
    total, is_greedy = model.loglikelihood(golden["source"], answer)
    rows = model.forward([START, *answer[:-1]], source=golden["source"]).astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    assert total == pytest.approx(logprobs[range(6), answer].sum(), rel=1e-5)
    assert is_greedy
    assert not model.loglikelihood(golden["source"], answer[::-1])[1]


def test_what_such_a_model_cannot_do_is_said(model: Model, files: Files) -> None:
    with model.sequence() as sequence, pytest.raises(ValueError, match="text for the encoder"):
        sequence.append([5])
    with pytest.raises(ValueError, match="text for the encoder"):
        model.forward([START])
    with pytest.raises(ValueError, match="prompt_logprobs"):
        model.generate([5], prompt_logprobs=1)
    with pytest.raises(ContextLengthExceeded, match="1 to 256 tokens for the encoder, got 257"):
        model.sequence([5] * 257)
    with jitllm.load(files("t5encoder")) as encoder:
        with pytest.raises(UnsupportedArchitecture, match="an encoder"):
            encoder.generate("a")
        with pytest.raises(UnsupportedArchitecture, match="an encoder and a decoder"):
            encoder.forward("a", source="b")


def test_start_of_decoders_is_checked(files: Files, tmp_path: Path) -> None:
    data = files("t5").read_bytes()
    key = b"t5.decoder_start_token_id"
    at = data.index(key) + len(key) + 4
    path = tmp_path / "m.gguf"
    path.write_bytes(data[:at] + (999).to_bytes(4, "little") + data[at + 4 :])
    with jitllm.load(path) as model, pytest.raises(ModelFormatError, match="0 to 127, got 999"):
        model.generate([5], max_tokens=1)


def test_all_tensors_are_used(files: Files) -> None:
    from jitllm.llm.models.loading import open_model

    for name in (*NAMES, "t5encoder"):
        with GGUFFile(files(name)) as file:
            opened = open_model(file, "reference")
            assert opened.unused == ()
            opened.backend.close()


def test_a_saved_sequence_goes_on(
    model: Model, golden: dict[str, list[int]], tmp_path: Path
) -> None:
    with model.sequence(golden["source"]) as sequence:
        sequence.append(golden["greedy"][:7])
        expected = sequence.logits
        sequence.save(tmp_path / "state")
    with model.load_sequence(tmp_path / "state") as sequence:
        assert sequence.source_ids == golden["source"]
        np.testing.assert_array_equal(sequence.logits, expected)
        assert sequence.append([golden["greedy"][7]]).logits.argmax() == golden["greedy"][8]
