"""Results: counts, reasoning, messages, tables, HTML."""

import json
import pickle
import re

import pytest

import jitllm
from jitllm.llm.results import Generation, Timings, TokenLogprob, Usage, split_reasoning


def _result(text: str, logprobs: list[TokenLogprob] | None = None) -> Generation:
    return Generation(
        text, [1, 2], "stop", [0], Usage(1, 2), Timings(1, 0.5, 2, 2.0, 1), logprobs,
        pieces=["a", "b"],
    )  # fmt: skip


def test_prints_as_its_text() -> None:
    result = _result("some text")
    assert str(result) == f"{result}" == "some text"
    assert result.usage.total_tokens == 3
    assert result.timings.tokens_per_s == 0.5
    assert result.timings.prompt_tokens_per_s == 2.0


def test_printed_form_is_short() -> None:
    assert repr(_result("some text")) == "<Generation: 'some text', 2 tokens, stop>"
    shown = repr(_result("a" * 5000 + "the end"))
    assert shown.endswith("athe end', 2 tokens, stop>") and " ... " in shown
    assert len(shown) < 150


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("plain", False, (None, "plain")),
        ("<think>why</think>\n\nso", False, ("why", "so")),
        ("\n<think>\n\n</think>\n\nso", False, ("", "so")),
        ("why\n</think>so", True, ("why", "so")),
        ("<think>cut off", False, ("cut off", "")),
        ("no <think>here</think>", False, (None, "no <think>here</think>")),
    ],
)
def test_reasoning(text: str, opened: bool, expected: tuple[str | None, str]) -> None:
    assert split_reasoning(text, opened=opened) == expected


def test_message_has_reasoning_only_where_there_is_some() -> None:
    assert _result("hi").message == {"role": "assistant", "content": "hi"}
    result = Generation(
        "<think>a</think>b", [], "stop", [], Usage(0, 0), Timings(0, 0, 0, 0, 0),
        reasoning="a", content="b",
    )  # fmt: skip
    assert result.message == {"role": "assistant", "content": "b", "reasoning_content": "a"}
    assert result.timings.tokens_per_s == 0.0


def test_html_is_escaped() -> None:
    evil = '<script>alert("x")</script>&'
    entry = TokenLogprob(1, evil, -2.0, ((1, evil, -2.0),))
    for result in (_result(evil), _result(evil, [entry, entry])):
        html = result._repr_html_()
        assert "<script" not in html
        assert "&lt;script&gt;" in html
        assert set(re.findall(r"</?(\w+)", html)) <= {"div", "span", "small"}
    assert 'title="' in _result(evil, [entry])._repr_html_()


def test_colour_follows_the_logprob() -> None:
    entries = [TokenLogprob(1, "a", value) for value in (0.0, -3.0, -60.0, None)]
    html = _result("aaaa", entries)._repr_html_()
    assert re.findall(r"rgba\(220,50,30,([0-9.]+)\)", html) == ["0.000", "0.300", "0.600", "0.000"]


def test_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    entry = TokenLogprob(5, "a", -1.0, ((5, "a", -1.0), (6, "b", -2.0)))
    assert _result("a", [entry]).to_frame() == [
        {"token": "a", "id": 5, "logprob": -1.0, "top": [("a", -1.0), ("b", -2.0)]}
    ]
    assert _result("ab").to_frame() == [{"token": "a", "id": 1}, {"token": "b", "id": 2}]


def test_provenance_gives_the_same_tokens_again(reference: jitllm.Model) -> None:
    result = reference.generate("Once", max_tokens=12)
    copied = pickle.loads(pickle.dumps(result))
    assert copied == result and copied.provenance == result.provenance
    facts = json.loads(json.dumps(result.provenance))
    assert len(facts["model"]["sha256"]) == 64
    assert facts["versions"]["jitllm"] == jitllm.__version__
    assert facts["device"] == "reference"
    again = reference.generate("Once", jitllm.SamplingParams.create(**facts["params"]))
    assert again.token_ids == result.token_ids
