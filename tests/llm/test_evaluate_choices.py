"""Accuracies of multiple choice against log-likelihoods computed one by one."""

import math
from typing import Any

import numpy as np
import pytest

import jitllm
from jitllm.llm.evaluate_estimate import Estimate

RECORDS: list[dict[str, Any]] = [
    {"context": "Once upon", "choices": ["a time", "the dog ran to"], "answer": 0},
    {"context": "The little girl", "choices": ["red", "was happy", "ball"], "answer": 1},
    {"context": "She had a", "choices": ["dog", "big ball in the park and"], "answer": 1},
    {"context": "He saw a", "choices": ["x", "bird"], "answer": 0},
]


def _one(model: jitllm.Model, context: str, continuation: str) -> float:
    return model.loglikelihood(context, continuation)[0]


def test_accuracies_are_those_of_the_scores(reference: jitllm.Model) -> None:
    got = jitllm.multiple_choice(reference, iter(RECORDS))
    right, right_norm, predictions = [], [], []
    for record in RECORDS:
        choices, answer = record["choices"], record["answer"]
        totals = [_one(reference, record["context"], f" {choice}") for choice in choices]
        norms = [total / len(choice) for total, choice in zip(totals, choices, strict=True)]
        predictions.append(int(np.argmax(totals)))
        right.append(predictions[-1] == answer)
        right_norm.append(int(np.argmax(norms)) == answer)
    assert got.predictions == tuple(predictions)
    assert float(got) == got.acc.value == np.mean(right)
    assert got.acc_norm.value == np.mean(right_norm)
    assert 0 < got.acc.value < 1 and right != right_norm
    error = math.sqrt(got.acc.value * (1 - got.acc.value) / 3)
    assert got.acc.standard_error == pytest.approx(error)
    assert str(got) == f"acc {got.acc}, acc_norm {got.acc_norm}, 4 records"
    assert got._repr_html_().count("<tr>") == 3


def test_delimiter(reference: jitllm.Model) -> None:
    records = [{"context": "Once", "choices": [" upon", " dog"], "answer": 0}]
    got = jitllm.multiple_choice(reference, records, delimiter="")
    totals = [_one(reference, "Once", choice) for choice in (" upon", " dog")]
    assert got.predictions == (int(np.argmax(totals)),)
    assert got.acc.standard_error == 0


def _seen(monkeypatch: pytest.MonkeyPatch, model: jitllm.Model) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    scored = model.loglikelihood

    def loglikelihood(context: Any, continuation: Any) -> Any:
        seen.extend(zip(context, continuation, strict=True))
        return scored(context, continuation)

    monkeypatch.setattr(model, "loglikelihood", loglikelihood)
    return seen


def test_hellaswag(reference: jitllm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _seen(monkeypatch, reference)
    record = {
        "activity_label": "Playing",
        "ctx_a": "[header] How to play [title] The girl had a ball.",
        "ctx_b": "the dog",
        "endings": ["ran  away.", "[substeps] sat.", "was red.", "said hi."],
        "label": "2",
    }
    got = jitllm.hellaswag(reference, [record])
    context = "Playing: How to play. The girl had a ball. The dog"
    assert seen == [(context, f" {e}") for e in ("ran away.", " sat.", "was red.", "said hi.")]
    monkeypatch.undo()
    totals = [_one(reference, *pair) for pair in seen]
    assert got.predictions == (int(np.argmax(totals)),)
    assert got.acc.value == (got.predictions[0] == 2)


def test_winogrande(reference: jitllm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _seen(monkeypatch, reference)
    record = {"sentence": "The dog saw the ball and _ was happy.", "option1": "it",
              "option2": "xq", "answer": "1"}  # fmt: skip
    got = jitllm.winogrande(reference, [record, {**record, "answer": 2}])
    start = "The dog saw the ball and "
    assert seen[:2] == [(f"{start}it", " was happy."), (f"{start}xq", " was happy.")]
    assert got.acc.value == got.acc_norm.value == 0.5
    assert got.predictions[0] == got.predictions[1]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"context": "a", "choices": ["b", "c"]}, r"record 0: expected a field 'answer'"),
        ({**RECORDS[0], "answer": 2}, "one of 2 choices, got 2"),
        ({**RECORDS[0], "answer": -1}, "got -1"),
        ({**RECORDS[0], "answer": "b"}, "record 0: invalid literal"),
        ({**RECORDS[0], "choices": ["b"]}, "at least two choices"),
        ({**RECORDS[0], "choices": "abc"}, "at least two choices"),
        ({**RECORDS[0], "choices": ["b", ""]}, "at least two choices with text"),
    ],
)
def test_records_that_say_nothing(
    reference: jitllm.Model, record: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        jitllm.multiple_choice(reference, [record])


def test_no_records_and_no_blank(reference: jitllm.Model) -> None:
    with pytest.raises(ValueError, match="expected records to score, got none"):
        jitllm.hellaswag(reference, [])
    record = {"sentence": "no blank", "option1": "a", "option2": "b", "answer": 1}
    with pytest.raises(ValueError, match="record 0: expected a sentence with a blank"):
        jitllm.winogrande(reference, [record])


def test_estimate_of_a_single_number() -> None:
    assert Estimate.mean(np.array([2.5])) == Estimate(2.5, 0.0)
