"""Encoders: hidden states and pooled vectors against llama.cpp, embedding and reranking."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Runner, devices, nmse
from logits import (
    MAX_NMSE,
    WRONG_NMSE,
    Files,
    change,
    written_once,
)
from models import model_path
from variants.encoders import (
    ENCODERS,
    MINILM_TEXTS,
    N_CTX,
    N,
    encoder_golden,
    encoder_model,
    reranker_model,
)

import jitllm
from jitllm.llm.embeddings import Embeddings
from jitllm.llm.errors import (
    ContextLengthExceeded,
    GGUFError,
    ModelFormatError,
    UnsupportedArchitecture,
)
from jitllm.llm.pooling import normalize, pooling_of

MINILM = Path(__file__).parents[3] / "shared/models/all-MiniLM-L6-v2.Q3_K_S.gguf"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Path of a tiny encoder, written once."""
    return written_once(tmp_path_factory.mktemp("encoders"), encoder_model)


def states_error(path: Path, name: str, device: str = "reference", **options: Any) -> float:
    """NMSE of the hidden states; of their mean where matrices belong behind the pooling."""
    golden = encoder_golden(name)
    with Runner(path, device, n_ctx=N_CTX, **options) as runner:
        states = runner.forward(golden["tokens"])
    if "dense_2.weight" in ENCODERS[name].single:
        return nmse(states.mean(axis=0), golden["mean"])
    return nmse(states, golden["states"])


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_states_are_those_of_llama_cpp(files: Files, name: str, device: str) -> None:
    assert states_error(files(name), name, device) <= MAX_NMSE


WRONG = {
    "tokens behind": ("bert", change("attention", causal=True)),
    "kind of segment": ("bert", change("add_row", row=np.zeros(N, np.float32))),
    "activation": ("bert", change("activation", act="relu")),
    "pairs of rope": ("nomic-bert", change("rope", kind="norm")),
    "weights of experts": ("nomic-bert-moe", change("experts", norm=True)),
    "distances": ("jina-bert-v2", change("attention", slopes=None)),
    "activation of the gate": ("modern-bert", change("glu", act="silu")),
    "window": ("modern-bert", change("attention", window=0)),
    "width of the window": ("modern-bert", change("attention", window=9)),
    "rope of layers": ("gemma-embedding", change("rope", magnitude=0.9)),
    "embedding scale": ("gemma-embedding", change("scale", factor=4.0)),
    "pairs of NeoBERT": ("neo-bert", change("rope", kind="neox")),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_detail_is_seen(files: Files, what: str) -> None:
    name, edit = WRONG[what]
    assert states_error(files(name), name, edit=edit) > WRONG_NMSE


@pytest.fixture(scope="module")
def bert(files: Files) -> Iterator[jitllm.Model]:
    """A tiny BERT with a classifier."""
    with jitllm.load(files("bert"), precision="exact") as model:
        yield model


def test_pooling(bert: jitllm.Model) -> None:
    golden = encoder_golden("bert")
    ids, states = golden["tokens"].tolist(), golden["states"]
    expected = {"none": states, "mean": golden["mean"], "cls": states[0], "last": states[-1]}
    for kind, vectors in expected.items():
        got = bert.embed(ids, pooling=kind, normalize=False)
        assert got.dtype == np.float32 and got.shape == vectors.shape
        assert nmse(got, vectors) <= MAX_NMSE
    np.testing.assert_array_equal(bert.embed(ids), bert.embed(ids, pooling="mean"))


def test_many_texts_give_what_each_gives_alone(bert: jitllm.Model) -> None:
    texts = ["a b c", "d", "j i h g a b"]
    texts += ["a b c d e " * n for n in (3, 11, 1, 9, 6)]  # more than one run
    vectors = bert.embed(texts)
    assert vectors.shape == (8, N)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors, [bert.embed(text) for text in texts])
    for kind in ("cls", "last"):
        at_once = bert.embed(texts, pooling=kind)
        np.testing.assert_array_equal(at_once, [bert.embed(t, pooling=kind) for t in texts])
    np.testing.assert_array_equal(bert.embed([[4, 5], [6]])[1], bert.embed([6]))
    assert bert.embed([]).shape == (0, N)


@pytest.mark.parametrize("name", ["jina-bert-v2", "modern-bert", "nomic-bert-moe"])
def test_texts_do_not_see_each_other(files: Files, name: str) -> None:
    texts = [[4, 5, 6], [7] * 10, [8, 9]]
    with jitllm.load(files(name), precision="fast") as model:
        at_once = model.embed(texts, pooling="mean")
        np.testing.assert_array_equal(at_once, [model.embed(t, pooling="mean") for t in texts])


def test_normalize_leaves_zeros() -> None:
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(normalize(vectors), np.array([[0.6, 0.8], [0, 0]]), rtol=1e-6)


def test_long_texts_are_cut_and_keep_their_end(
    bert: jitllm.Model, caplog: pytest.LogCaptureFixture
) -> None:
    long = "a " * 100
    with caplog.at_level(logging.WARNING, "jitllm.embeddings"):
        got = bert.embed(long)
    assert "102 tokens is cut to the 64" in caplog.text
    ids = bert.tokenize(long)
    np.testing.assert_array_equal(got, bert.embed([*ids[: N_CTX - 1], ids[-1]]))


def test_wrong_arguments_of_embed(bert: jitllm.Model) -> None:
    with pytest.raises(ValueError, match=r"pooling must be one of .*got 'max'"):
        bert.embed("a", pooling="max")
    with pytest.raises(ValueError, match="one text with pooling"):
        bert.embed(["a"], pooling="none")
    with pytest.raises(ValueError, match="texts with tokens"):
        bert.embed([[]])
    with pytest.raises(TypeError, match="in one list"):
        bert.embed(["a", 4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ids from 0 to 95"):
        bert.embed([96])


def test_an_encoder_does_not_generate(bert: jitllm.Model) -> None:
    assert bert.n_vocab == 96
    uses: list[Callable[[str], Any]] = [
        bert.generate, bert.stream, bert.sequence,
        lambda text: bert.perplexity(text, n_ctx=8), lambda text: bert.loglikelihood([4], [5]),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(UnsupportedArchitecture, match="an encoder: use `embed`"):
            use("a b c d e f g h i j")


def test_forward_and_hooks_of_an_encoder(bert: jitllm.Model) -> None:
    golden = encoder_golden("bert")
    ids = golden["tokens"].tolist()
    states, cache = bert.run_with_cache(ids, "blocks.2.hook_resid_post")
    assert nmse(states, golden["states"]) <= MAX_NMSE
    np.testing.assert_array_equal(cache["blocks.2.hook_resid_post"], states)
    np.testing.assert_array_equal(bert.forward(ids, rows=[3, 1]), states[[3, 1]])
    with bert.hooks({"inp_types": lambda x, hook: x * 0}):
        zero = bert.embed(ids)
    assert not np.array_equal(zero, bert.embed(ids))
    with pytest.raises(ContextLengthExceeded, match="at most 64 tokens in a text, got 65"):
        bert.forward([4] * 65)


@pytest.mark.parametrize("name", ["bert", "jina-bert-v2", "modern-bert"])
def test_classifiers(files: Files, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = encoder_golden(name)
    monkeypatch.setattr(Embeddings, "_pair", lambda self, query, text: golden["tokens"].tolist())
    with jitllm.load(files(name), device="reference", precision="exact") as model:
        got = model.rerank("a", ["b", "c"])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [golden["rank"][0]] * 2, rtol=2e-3, atol=5e-4)


def test_a_reranker_that_generates_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = encoder_golden("qwen3")
    monkeypatch.setattr(Embeddings, "_pair", lambda self, query, text: golden["tokens"].tolist())
    with jitllm.load(reranker_model(tmp_path / "m.gguf"), precision="exact") as model:
        got = model.rerank("a", ["b"])
        assert model.head is not None and model.head.pooling == "last"
    np.testing.assert_allclose(got, golden["rank"][:1], rtol=2e-3)


def test_rerank_by_a_template(bert: jitllm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    template = {"tokenizer.chat_template.rerank": "[CLS]{query} j {document}"}
    monkeypatch.setattr(bert, "metadata", {**bert.metadata, **template})
    assert bert.head is not None
    state = bert.embed([2, 4, 13, 5], pooling="cls", normalize=False)
    np.testing.assert_array_equal(bert.rerank("a", ["b"]), bert.head(state))


def test_rerank_writes_pairs(bert: jitllm.Model) -> None:
    seen: list[int] = []
    with bert.hooks({"hidden_states": lambda x, hook: seen.append(len(x))}):
        scores = bert.rerank("a b", ["c d e", "c"])
    assert scores.shape == (2,) and scores[0] != scores[1]
    assert bert.rerank("a", []).shape == (0,)
    expected = [bert.embed([2, 4, 5, 3, *rest, 3], pooling="cls", normalize=False)
                for rest in ([6, 7, 8], [6])]  # fmt: skip
    assert bert.head is not None
    np.testing.assert_array_equal(scores, [bert.head(state)[0] for state in expected])


def test_rerank_needs_a_classifier_and_a_list(bert: jitllm.Model, files: Files) -> None:
    with pytest.raises(TypeError, match="a list of documents"):
        bert.rerank("a", "b")
    with (
        jitllm.load(files("nomic-bert"), device="reference") as model,
        pytest.raises(UnsupportedArchitecture, match="a classifier"),
    ):
        model.rerank("a", ["b"])


def test_a_classifier_of_wrong_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert = ENCODERS["bert"]
    wrong = dataclasses.replace(bert, single=bert.single | {"cls.weight": (N, N + 1)})
    monkeypatch.setitem(ENCODERS, "bert", wrong)
    with pytest.raises(ModelFormatError, match=r"classifier.*64 columns.*\(64, 65\)"):
        jitllm.load(encoder_model("bert", tmp_path / "m.gguf"), device="reference")


def test_a_missing_tensor_of_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    less = dataclasses.replace(ENCODERS["bert"], without=("blk.1.ffn_up.weight",))
    monkeypatch.setitem(ENCODERS, "bert", less)
    with pytest.raises(GGUFError, match=r"blk\.1\.ffn_up\.weight.*got none"):
        jitllm.load(encoder_model("bert", tmp_path / "m.gguf"), device="reference")


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "none"), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank")]
)
def test_the_file_says_the_pooling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    bert = ENCODERS["bert"]
    said = dataclasses.replace(bert, metadata={"pooling_type": number})
    monkeypatch.setitem(ENCODERS, "bert", said)
    path = encoder_model("bert", tmp_path / "m.gguf")
    with jitllm.load(path, device="reference") as model:
        assert pooling_of(model.config) == expected
        if expected == "rank":
            with pytest.raises(ValueError, match="is a reranker"):
                model.embed([4, 5, 6])
        else:
            used = "mean" if expected == "none" else expected
            np.testing.assert_array_equal(
                model.embed([4, 5, 6]), model.embed([4, 5, 6], pooling=used)
            )


def test_a_pooling_that_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = dataclasses.replace(ENCODERS["bert"], metadata={"pooling_type": 7})
    monkeypatch.setitem(ENCODERS, "bert", said)
    with jitllm.load(encoder_model("bert", tmp_path / "m.gguf"), device="reference") as model:
        with pytest.raises(ModelFormatError, match=r"pooling_type.*0 to 4, got 7"):
            model.embed([4])


def test_models_with_logits_have_vectors_too() -> None:
    with jitllm.load(model_path("stories260K"), precision="exact") as model:
        _, cache = model.run_with_cache("Once upon a time", "output_norm")
        states = cache["output_norm"]
        last = model.embed("Once upon a time", normalize=False)
        mean = model.embed(["Once upon a time"], pooling="mean", normalize=False)
    np.testing.assert_allclose(last, states[-1], rtol=1e-6)
    np.testing.assert_allclose(mean, [states.mean(axis=0)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "last"])
def test_vectors_of_models_with_logits_are_those_of_llama_cpp(kind: str) -> None:
    golden = encoder_golden("stories260K")
    with jitllm.load(model_path("stories260K"), precision="exact", kv_dtype="f32") as model:
        got = model.embed(golden["tokens"].tolist(), pooling=kind, normalize=False)
    assert nmse(got, golden[kind]) <= MAX_NMSE


@pytest.mark.slow
@pytest.mark.skipif(not MINILM.exists(), reason="all-MiniLM-L6-v2 is not in ../shared/models")
@pytest.mark.parametrize(("precision", "least"), [("exact", 0.99999), ("fast", 0.9995)])
def test_vectors_of_a_real_model(precision: Any, least: float) -> None:
    with jitllm.load(MINILM, precision=precision) as model:
        vectors = model.embed(list(MINILM_TEXTS))
    assert (vectors * encoder_golden("minilm")["vectors"]).sum(axis=1).min() > least
