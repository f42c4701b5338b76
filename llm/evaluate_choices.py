"""Accuracy in tasks of multiple choice, by the log-likelihoods of the answers.

A choice's score is the summed log-probability of its text behind the context. `acc` counts where
the right one has the largest score, `acc_norm` where it has the largest score per character of the
choice: definitions of EleutherAI's lm-evaluation-harness, without its examples in the context.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from jitllm.llm.evaluate_estimate import Estimate
from jitllm.llm.progress import ProgressBar

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Record: TypeAlias = Mapping[str, Any]

_HEAD = ("accuracy", "value", "standard error")


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """How often a model finds the right choice; `float` of it is `acc`.

    Attributes
    ----------
    acc : Estimate
        Part of the records whose right choice is the most probable.
    acc_norm : Estimate
        Likewise, by log-probability per character of the choice.
    predictions : tuple of int
        For each record the most probable choice, from 0.
    """

    acc: Estimate
    acc_norm: Estimate
    predictions: tuple[int, ...]

    def __float__(self) -> float:
        return self.acc.value

    def __str__(self) -> str:
        n = len(self.predictions)
        return f"acc {self.acc}, acc_norm {self.acc_norm}, {n} records"

    def _repr_html_(self) -> str:
        from jitllm.llm.display import table_html

        rows = [(name, f"{e.value:.6f}", f"{e.standard_error:.6f}")
                for name, e in (("acc", self.acc), ("acc_norm", self.acc_norm))]  # fmt: skip
        return f"<div>{table_html(_HEAD, rows)}<small>{len(self.predictions)} records</small></div>"


@dataclass(frozen=True, slots=True)
class _Question:
    """Contexts and continuations, one of each per choice; what normalizes; the right choice."""

    contexts: list[str]
    continuations: list[str]
    lengths: list[int]
    answer: int


def multiple_choice(
    model: "Model", records: Iterable[Record], *, delimiter: str = " ", progress: bool = False
) -> ChoiceScores:
    """Return how often the right choice is the most probable continuation of a context.

    Parameters
    ----------
    model : Model
    records : iterable of mapping
        "context": str; "choices": at least two str; "answer": int, the right one from 0.
    delimiter : str
        Stands between context and choice.
    progress : bool

    Raises
    ------
    ValueError
        If there are no records, one lacks something, or a choice has no tokens of its own.
    ContextLengthExceeded
    """

    def question(record: Record) -> _Question:
        return _ask(record["context"], record["choices"], record["answer"], delimiter)

    return _scores(model, records, question, progress)


def hellaswag(model: "Model", records: Iterable[Record], *, progress: bool = False) -> ChoiceScores:
    """Return the scores of HellaSwag's records: which of four endings follows.

    Parameters
    ----------
    model : Model
    records : iterable of mapping
        As the data set has them: "activity_label", "ctx_a", "ctx_b", "endings" and "label", the
        last an int or its text. Marks such as [title] are taken out.
    progress : bool

    Raises
    ------
    ValueError
        If there are no records, or one lacks something.
    ContextLengthExceeded
    """

    def question(record: Record) -> _Question:
        context = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
        endings = [_without_marks(ending) for ending in record["endings"]]
        return _ask(_without_marks(context), endings, record["label"], " ")

    return _scores(model, records, question, progress)


def winogrande(
    model: "Model", records: Iterable[Record], *, progress: bool = False
) -> ChoiceScores:
    """Return the scores of WinoGrande's records: which of two words fits in the blank.

    The rest of the sentence is scored, behind the sentence up to the blank and either word.

    Parameters
    ----------
    model : Model
    records : iterable of mapping
        As the data set has them: "sentence" with a blank `_`, "option1", "option2", and "answer",
        1 or 2 or its text.
    progress : bool

    Raises
    ------
    ValueError
        If there are no records, one lacks something, or nothing follows a blank.
    ContextLengthExceeded
    """

    def question(record: Record) -> _Question:
        before, blank, behind = record["sentence"].partition("_")
        if not blank or not behind.strip():
            raise ValueError(f"expected a sentence with a blank _ and a rest, got {before!r:.80}")
        rest = f" {behind.strip()}"
        contexts = [before + record["option1"], before + record["option2"]]
        return _checked(contexts, [rest] * 2, [len(rest)] * 2, int(record["answer"]) - 1)

    return _scores(model, records, question, progress)


def _ask(context: str, choices: Iterable[str], answer: int | str, delimiter: str) -> _Question:
    texts = [choices] if isinstance(choices, str) else list(choices)
    continuations = [delimiter + text for text in texts]
    return _checked([context] * len(texts), continuations, [*map(len, texts)], int(answer))


def _checked(
    contexts: list[str], continuations: list[str], lengths: list[int], answer: int
) -> _Question:
    if len(contexts) < 2 or not all(lengths):
        raise ValueError(f"expected at least two choices with text, got {continuations!r:.80}")
    if not 0 <= answer < len(contexts):
        raise ValueError(f"expected the answer to be one of {len(contexts)} choices, got {answer}")
    return _Question(contexts, continuations, lengths, answer)


def _without_marks(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _scores(
    model: "Model",
    records: Iterable[Record],
    question: Callable[[Record], _Question],
    progress: bool,
) -> ChoiceScores:
    questions = [_read(question, record, i) for i, record in enumerate(records)]
    if not questions:
        raise ValueError("expected records to score, got none")
    predictions: list[int] = []
    right, right_norm = np.zeros(len(questions)), np.zeros(len(questions))
    with ProgressBar(progress, "choices", unit="record") as bar:
        for i, asked in enumerate(questions):
            pairs = model.loglikelihood(asked.contexts, asked.continuations)
            totals = np.array([total for total, _ in pairs])
            predictions.append(int(totals.argmax()))
            right[i] = predictions[-1] == asked.answer
            right_norm[i] = (totals / asked.lengths).argmax() == asked.answer
            bar.update(i + 1, len(questions), note=f"acc {right[: i + 1].mean():.4f}")
    return ChoiceScores(Estimate.mean(right), Estimate.mean(right_norm), tuple(predictions))


def _read(question: Callable[[Record], _Question], record: Record, number: int) -> _Question:
    try:
        return question(record)
    except KeyError as error:
        raise ValueError(f"record {number}: expected a field {error}, got {[*record]}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"record {number}: {error}") from error
