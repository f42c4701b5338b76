"""The harness's requests against the model's own answers."""

import abc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.harness import HarnessAnswers, harness_model

LONG = "Once upon a time there was a little girl. She had a red ball and a dog. " * 3


@dataclass
class Request:
    """A request with arguments, as the harness makes them."""

    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def short() -> Iterator[jitllm.Model]:
    """The story model with little room."""
    path = model_path("stories260K")
    with jitllm.load(path, device="reference", n_ctx=32, progress=False) as model:
        yield model


def _total(model: jitllm.Model, ids: list[int], n_scored: int) -> tuple[float, bool]:
    """Score the last tokens of ids, of which the last is never read."""
    logits = model.forward(ids[:-1]).astype(np.float64)[-n_scored:]
    tops = logits.max(axis=1, keepdims=True)
    table = logits - tops - np.log(np.exp(logits - tops).sum(axis=1, keepdims=True))
    targets = ids[-n_scored:]
    total = sum(table[i, token] for i, token in enumerate(targets))
    return float(total), bool((logits.argmax(axis=1) == targets).all())


@pytest.mark.parametrize("continuation", [" a time", " a", " a time there was a zoo!"])
def test_all_tokens_of_a_continuation_count(reference: jitllm.Model, continuation: str) -> None:
    ids = reference.tokenize("Once upon" + continuation)
    n_scored = len(ids) - len(reference.tokenize("Once upon"))
    ((total, is_greedy),) = HarnessAnswers(reference).loglikelihood(
        [Request(("Once upon", continuation))]
    )
    expected = _total(reference, ids, n_scored)
    assert total == pytest.approx(expected[0], abs=1e-3)
    assert is_greedy == expected[1]


def test_without_context(reference: jitllm.Model) -> None:
    ids = [1, *reference.tokenize("Once upon", add_special=False)]
    answers = HarnessAnswers(reference).loglikelihood([Request(("", "Once upon"))])
    assert answers[0][0] == pytest.approx(_total(reference, ids, len(ids) - 1)[0], abs=1e-3)


def test_a_long_context_loses_its_front(short: jitllm.Model) -> None:
    ids = short.tokenize(f"{LONG} a big dog")
    n_scored = len(ids) - len(short.tokenize(LONG.rstrip()))
    answers = HarnessAnswers(short).loglikelihood([Request((LONG, " a big dog"))])
    expected = _total(short, ids[-short.n_ctx - 1 :], n_scored)
    assert answers[0][0] == pytest.approx(expected[0], abs=1e-3)
    with pytest.raises(jitllm.ContextLengthExceeded):
        HarnessAnswers(short).loglikelihood([Request(("One", LONG))])


def test_rolling_scores_each_token_once(short: jitllm.Model) -> None:
    ids, width = short.tokenize(LONG, add_special=False), short.n_ctx
    assert len(ids) > 2 * width and len(ids) % width
    everything, expected = [1, *ids], 0.0
    for start in range(0, len(ids), width):
        end = min(start + width, len(ids))
        window = everything[max(0, end - width) : end + 1]
        expected += _total(short, window, end - start)[0]
    answers = HarnessAnswers(short).loglikelihood_rolling([Request((LONG,)), Request(("",))])
    assert answers == [pytest.approx(expected, abs=1e-2), 0.0]


def test_generation_is_greedy_and_stops(reference: jitllm.Model) -> None:
    whole = reference.generate("Once upon", max_tokens=24, temperature=0).text
    harness = HarnessAnswers(reference)
    requests = [
        Request(("Once upon", {"max_gen_toks": 24})),
        Request(("Once upon", {"until": [whole[8:12]], "max_gen_toks": 24})),
        Request(("Once upon", {"until": whole[8:12], "max_new_tokens": 24, "temperature": 5.0,
                               "do_sample": False})),
        Request(("Once upon", {"max_gen_toks": 24, "do_sample": True, "temperature": 5.0,
                               "seed": 1})),
    ]  # fmt: skip
    texts = harness.generate_until(requests)
    cut = whole[: whole.index(whole[8:12])]
    assert texts[:3] == [whole, cut, cut]
    assert texts[3] != whole


def test_long_prompts_leave_room(short: jitllm.Model) -> None:
    ids = short.tokenize(LONG)
    expected = short.generate(ids[-24:], max_tokens=8, temperature=0).text
    answers = HarnessAnswers(short).generate_until([Request((LONG, {"max_gen_toks": 8}))])
    assert answers == [expected]
    with pytest.raises(jitllm.ContextLengthExceeded, match="below the context of 32 tokens"):
        HarnessAnswers(short).generate_until([Request((LONG, {}))])
    with pytest.raises(jitllm.SamplingError, match="num_beams"):
        HarnessAnswers(short).generate_until([Request(("a", {"max_gen_toks": 8, "num_beams": 2}))])


class _Base(abc.ABC):
    """What the harness's base class asks of a model."""

    def __init__(self) -> None:
        self.cache_hook = self
        self.kept: list[tuple[str, tuple[Any, ...], Any]] = []

    def add_partial(self, kind: str, args: tuple[Any, ...], answer: Any) -> None:
        """Keep an answer."""
        self.kept.append((kind, args, answer))

    @abc.abstractmethod
    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]: ...

    @abc.abstractmethod
    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]: ...

    @abc.abstractmethod
    def generate_until(self, requests: list[Any]) -> list[str]: ...


def test_it_is_a_model_of_the_harness(
    reference: jitllm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("lm_eval.api.model")
    module.LM = _Base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", ModuleType("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.api", ModuleType("lm_eval.api"))
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", module)
    harness = harness_model(reference)
    assert isinstance(harness, _Base)
    (answer,) = harness.loglikelihood([Request(("Once upon", " a time"))])
    assert answer == reference.loglikelihood("Once upon", " a time")
    assert harness.kept == [("loglikelihood", ("Once upon", " a time"), answer)]
    assert HarnessAnswers(reference).tokenizer_name == reference.identity.name


def test_the_package_is_not_there(reference: jitllm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.api.model", raising=False)
    with pytest.raises(ImportError, match="expected the package lm_eval, .*pip install lm_eval"):
        harness_model(reference)


def test_chats(reference: jitllm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = HarnessAnswers(reference)
    assert harness.chat_template(False) == ""
    monkeypatch.setattr(
        reference, "chat_text", lambda messages, _, **kw: (f"<s>[{messages[0]['content']}]", None)
    )
    assert harness.apply_chat_template([{"role": "user", "content": "Hi"}]) == "[Hi]"


def test_a_model_without_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = conformance_model("qwen2-dense", tmp_path_factory.mktemp("model") / "m.gguf")
    with jitllm.load(path, device="reference", progress=False) as model:
        with pytest.raises(jitllm.UnsupportedTokenizer):
            HarnessAnswers(model).loglikelihood([Request(("", "text"))])
