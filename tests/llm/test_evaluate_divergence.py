"""KL divergence of two models against its formulas."""

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm

TEXT = "Once upon a time there was a little girl. She had a red ball and a dog. " * 6
N_CTX = 48
Table = NDArray[np.float64]


@pytest.fixture(scope="module")
def other() -> Iterator[jitllm.Model]:
    """The story model once more, so that hooks can change one of the two."""
    with jitllm.load(model_path("stories260K"), device="reference", progress=False) as model:
        yield model


@contextlib.contextmanager
def _changed(model: jitllm.Model) -> Iterator[jitllm.Model]:
    """A model whose first layer gives something else."""
    shift = np.random.default_rng(5).normal(size=model.config.hidden_size) * 0.1

    def add(values: NDArray[np.float32], hook: object) -> NDArray[np.float32]:
        return values + shift.astype(np.float32)

    with model.hooks({"blk.0.l_out": add}):
        yield model


def _log_softmax(logits: NDArray[np.float32]) -> Table:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    table: Table = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return table


def _tables(model: jitllm.Model, ids: list[int]) -> Table:
    return np.concatenate(
        [
            _log_softmax(model.forward([1, *ids[start + 1 : start + N_CTX]]))[N_CTX // 2 : -1]
            for start in range(0, len(ids) - N_CTX + 1, N_CTX)
        ]
    )


def _error(values: Table) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def test_numbers_are_those_of_the_formulas(reference: jitllm.Model, other: jitllm.Model) -> None:
    ids = reference.tokenize(TEXT)
    with _changed(other):
        got = jitllm.kl_divergence(other, reference, TEXT, n_ctx=N_CTX)
        q, perplexity = _tables(other, ids), other.perplexity(TEXT, n_ctx=N_CTX)
    p = _tables(reference, ids)
    count = len(ids) // N_CTX
    scored = [ids[i * N_CTX + N_CTX // 2 + 1 : (i + 1) * N_CTX] for i in range(count)]
    tokens, rows = np.concatenate(scored), np.arange(len(p))
    kld = (np.exp(p) * (p - q)).sum(axis=1)
    assert got.n_tokens == len(tokens) == len(rows) and got.n_chunks == count
    assert float(got) == got.kld.value == pytest.approx(kld.mean(), rel=1e-3)
    assert got.kld.value > 1e-3
    assert got.kld.standard_error == pytest.approx(_error(kld), rel=1e-3)
    for percent, value in got.kld_percentiles.items():
        assert value == pytest.approx(np.percentile(kld, percent), rel=1e-2, abs=1e-5)
    assert got.kld_percentiles[100] == pytest.approx(kld.max(), rel=1e-3)
    assert float(got.perplexity) == pytest.approx(float(perplexity), rel=1e-6)
    assert got.perplexity.standard_error == pytest.approx(perplexity.standard_error, rel=1e-6)
    base = reference.perplexity(TEXT, n_ctx=N_CTX)
    assert float(got.base_perplexity) == pytest.approx(float(base), rel=1e-6)
    own, others = -q[rows, tokens], -p[rows, tokens]
    gap = own - others
    assert got.log_ratio.value == pytest.approx(gap.mean(), rel=1e-3)
    assert got.log_ratio.standard_error == pytest.approx(_error(gap), rel=1e-3)
    assert got.ratio.value == pytest.approx(math.exp(gap.mean()), rel=1e-4)
    assert got.ratio.standard_error == pytest.approx(got.ratio.value * _error(gap), rel=1e-3)
    assert got.difference.value == pytest.approx(float(perplexity) - float(base), rel=1e-3)
    assert got.correlation == pytest.approx(np.corrcoef(own, others)[0, 1], abs=1e-4)
    delta = np.exp(-own) - np.exp(-others)
    assert got.delta_p.value == pytest.approx(delta.mean(), abs=1e-5)
    assert got.delta_p.standard_error == pytest.approx(_error(delta), rel=1e-3)
    assert got.delta_p_percentiles[0] == pytest.approx(delta.min(), abs=1e-5)
    rms = math.sqrt((delta**2).mean())
    assert got.rms_delta_p.value == pytest.approx(rms, rel=1e-3)
    assert got.rms_delta_p.standard_error == pytest.approx(_error(delta**2) / (2 * rms), rel=1e-3)
    same = np.mean(p.argmax(axis=1) == q.argmax(axis=1))
    assert 0 < same < 1
    assert got.same_top_p.value == pytest.approx(same)
    spread = math.sqrt(same * (1 - same) / (len(rows) - 1))
    assert got.same_top_p.standard_error == pytest.approx(spread)


def test_a_model_does_not_diverge_from_itself(reference: jitllm.Model) -> None:
    got = jitllm.kl_divergence(reference, reference, TEXT, n_ctx=N_CTX, n_chunks=1)
    assert got.n_chunks == 1
    assert got.kld.value == got.kld_percentiles[100] == got.rms_delta_p.value == 0
    assert got.ratio.value == got.same_top_p.value == 1
    assert got.ratio.standard_error == pytest.approx(0, abs=1e-6)
    assert got.correlation == pytest.approx(1)


def test_what_is_printed(reference: jitllm.Model) -> None:
    got = jitllm.kl_divergence(reference, reference, TEXT, n_ctx=N_CTX, n_chunks=1)
    lines = str(got).splitlines()
    assert lines[-1] == "23 tokens in 1 chunks"
    value, error = got.perplexity.value, got.perplexity.standard_error
    assert lines[1].split() == ["perplexity", f"{value:.6f}", f"{error:.6f}"]
    assert str(got.perplexity) == f"{value:.6f} +/- {error:.6f}"
    assert any(line.startswith("99.9% KLD") for line in lines)
    html = got._repr_html_()
    assert html.count("<tr>") == len(lines) - 1 and "maximum delta p" in html


def test_models_that_cannot_be_compared(
    reference: jitllm.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = conformance_model("qwen2-dense", tmp_path_factory.mktemp("model") / "m.gguf")
    with jitllm.load(path, device="reference", progress=False) as model:
        with pytest.raises(ValueError, match="expected models of one vocabulary"):
            jitllm.kl_divergence(model, reference, [1] * 64, n_ctx=16)


def test_another_tokenizer(
    reference: jitllm.Model, other: jitllm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other, "to_ids", lambda text: [*reference.to_ids(text), 5])
    with pytest.raises(ValueError, match="got two tokenizers"):
        jitllm.kl_divergence(other, reference, TEXT, n_ctx=N_CTX)


def test_texts_and_chunks_that_do_not_fit(reference: jitllm.Model) -> None:
    with pytest.raises(ValueError, match="expected a text of at least"):
        jitllm.kl_divergence(reference, reference, "short", n_ctx=64)
    with pytest.raises(ValueError, match="n_chunks=0"):
        jitllm.kl_divergence(reference, reference, TEXT, n_ctx=16, n_chunks=0)
    with pytest.raises(jitllm.ContextLengthExceeded, match="at most 512 tokens, got n_ctx=513"):
        jitllm.kl_divergence(reference, reference, TEXT, n_ctx=513)
