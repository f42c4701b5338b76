"""Perplexity and log-likelihood against their formulas."""

import math

import numpy as np
import pytest
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm

TEXT = "Once upon a time there was a little girl. She had a red ball and a dog. " * 12


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    table: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return table


@pytest.mark.parametrize("n_ctx", [64, 33])
def test_perplexity_is_llama_perplexitys(stories: jitllm.Model, n_ctx: int) -> None:
    ids = stories.tokenize(TEXT)
    losses: list[float] = []
    for start in range(0, len(ids) - n_ctx + 1, n_ctx):
        chunk = [1, *ids[start + 1 : start + n_ctx]]
        table = _log_softmax(stories.forward(chunk))
        losses += [-table[i, chunk[i + 1]] for i in range(n_ctx // 2, n_ctx - 1)]
    got = stories.perplexity(TEXT, n_ctx=n_ctx)
    mean, square = np.mean(losses), np.mean(np.square(losses))
    assert got.n_tokens == len(losses)
    assert got.n_chunks == len(ids) // n_ctx
    assert float(got) == got.value == pytest.approx(math.exp(mean), rel=1e-4)
    error = math.exp(mean) * math.sqrt((square - mean**2) / (len(losses) - 1))
    assert got.standard_error == pytest.approx(error, rel=1e-3)
    assert str(got) == f"{got.value:.4f} +/- {got.standard_error:.4f}"


def test_perplexity_of_some_chunks(reference: jitllm.Model) -> None:
    ids = reference.tokenize(TEXT)
    assert reference.perplexity(TEXT, n_ctx=40, n_chunks=2) == reference.perplexity(
        ids[:95], n_ctx=40
    )


@pytest.mark.parametrize(
    ("text", "n_ctx", "n_chunks"), [("short", 64, None), (TEXT, 3, None), (TEXT, 64, 0)]
)
def test_too_little_text(
    reference: jitllm.Model, text: str, n_ctx: int, n_chunks: int | None
) -> None:
    with pytest.raises(ValueError, match="expected a text of at least"):
        reference.perplexity(text, n_ctx=n_ctx, n_chunks=n_chunks)


def test_chunks_that_do_not_fit(reference: jitllm.Model) -> None:
    with pytest.raises(jitllm.ContextLengthExceeded, match="at most 512 tokens, got n_ctx=513"):
        reference.perplexity(TEXT, n_ctx=513)


@pytest.mark.parametrize(
    ("context", "continuation"),
    [("Once upon", " a time"), ("Once upon ", "a time"), ("", "Once upon"), ("Once", "s u p on")],
)
def test_loglikelihood_is_that_of_forward(
    stories: jitllm.Model, context: str, continuation: str
) -> None:
    ids = stories.tokenize(context + continuation)
    n_before = len(stories.tokenize(context.rstrip()))
    table = _log_softmax(stories.forward(ids))
    steps = range(n_before - 1, len(ids) - 1)
    expected = sum(table[i, ids[i + 1]] for i in steps)
    greedy = all(table[i].argmax() == ids[i + 1] for i in steps)
    total, is_greedy = stories.loglikelihood(context, continuation)
    assert total == pytest.approx(expected, abs=2e-3)
    assert is_greedy == greedy
    by_ids = stories.loglikelihood(ids[:n_before], ids[n_before:])
    assert by_ids == (total, is_greedy)


def test_greedy_continuation(stories: jitllm.Model) -> None:
    result = stories.generate("Once upon", max_tokens=6, temperature=0)
    prompt, ids = result.prompt_token_ids, result.token_ids
    assert stories.loglikelihood(prompt, ids)[1]
    assert not stories.loglikelihood(prompt, [*ids[:-1], ids[-1] - 1])[1]
    assert not stories.loglikelihood(prompt, [ids[0] - 1, *ids[1:]])[1]


def test_lists(reference: jitllm.Model) -> None:
    got = reference.loglikelihood(["Once upon", "The"], [" a time", " dog"])
    assert got == [
        reference.loglikelihood("Once upon", " a time"),
        reference.loglikelihood("The", " dog"),
    ]
    with pytest.raises(ValueError, match="shorter|longer"):
        reference.loglikelihood(["a", "b"], ["c"])


def test_nothing_to_score(
    reference: jitllm.Model, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(ValueError, match="expected a continuation"):
        reference.loglikelihood("Once", "")
    assert len(reference.tokenize("th")) == len(reference.tokenize("t")) == 2
    with pytest.raises(ValueError, match="got 'h', which becomes part of the context's last token"):
        reference.loglikelihood("t", "h")
    path = conformance_model("qwen2-dense", tmp_path_factory.mktemp("model") / "m.gguf")
    with jitllm.load(path, device="reference", progress=False) as model:
        with pytest.raises(ValueError, match="no token of beginning"):
            model.loglikelihood([], [1, 2])


def test_the_last_position_of_the_context_is_scored() -> None:
    path = model_path("stories260K")
    with jitllm.load(path, device="reference", n_ctx=16, progress=False) as model:
        ids = list(range(300, 317))
        assert model.loglikelihood(ids[:10], ids[10:])[0] < 0
        with pytest.raises(jitllm.ContextLengthExceeded):
            model.loglikelihood(ids[:10], [*ids[10:], 5])
