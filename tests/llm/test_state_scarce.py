"""Where pages or slots run out, sequences stay whole, and nothing is lost."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import conformance_model

import jitllm
from jitllm.llm.errors import BackendError
from jitllm.llm.state.budget import Sizes
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.together import compute_together

_TINY = ("llama-dense.gqa", "gemma3-dense.gqa", "mamba2-dense", "falcon-h1-dense.gqa")


class Work:
    """Random work on sequences of a model with little memory; `ample` has enough."""

    def __init__(self, model: jitllm.Model, ample: jitllm.Model, path: Path) -> None:
        self.model, self.ample, self.path = model, ample, path
        self.random = random.Random(3)
        self.sequences: list[Sequence] = []
        self.texts: list[list[int]] = []
        self.n_refused = 0

    def try_(self, action: Callable[[], object]) -> bool:
        """Whether there was memory for it."""
        try:
            action()
        except BackendError:
            self.n_refused += 1
            return False
        return True

    def step(self) -> None:
        """Do something, then look at a sequence."""
        if not self.sequences:
            self._add(self.model.sequence(), [])
        place = self.random.randrange(len(self.sequences))
        sequence, text = self.sequences[place], self.texts[place]
        way = self.random.choice(("append", "append", "append", "fork", "cut", "keep", "back",
                                  "load", "together", "close", "close"))  # fmt: skip
        if way == "append":
            new = [self.random.randrange(100) for _ in range(self.random.choice((1, 63, 65, 300)))]
            if len(text) + len(new) > 1024:
                return
            self.try_(lambda: sequence.append(new))
            found = sequence.token_ids
            assert found == [*text, *new][: len(found)] and len(found) >= len(text)
            self.texts[place] = found
        elif way == "fork":
            self._add(sequence.fork(), text)
        elif way == "cut":
            n = self.random.randint(0, len(text))
            sequence.truncate(n)
            self.texts[place] = text[:n]
        elif way == "keep":
            sequence.checkpoint()
            sequence.save(self.path, sync=False)
        elif way == "back" and len(sequence.history):
            sequence.rollback()
            self.texts[place] = sequence.token_ids
        elif way == "load" and self.path.exists():
            self.try_(lambda: self._load())
        elif way == "together":
            some = [one for one in self.sequences if len(one)]
            contents = [one.contents for one in some]
            self.try_(lambda: compute_together(self.model.engine, contents))
        elif way == "close":
            sequence.close()
            del self.sequences[place], self.texts[place]

    def check(self) -> None:
        """Compare a sequence's logits, if there is memory to compute them."""
        for sequence, text in zip(self.sequences[-1:], self.texts[-1:], strict=True):
            assert sequence.token_ids == text
            if text and self.try_(lambda s=sequence: s.logits):  # type: ignore[misc]
                assert np.array_equal(sequence.logits, self.ample.forward(text)[-1])

    def _add(self, sequence: Sequence, text: list[int]) -> None:
        self.sequences.append(sequence)
        self.texts.append(list(text))

    def _load(self) -> None:
        sequence = self.model.load_sequence(self.path)
        self._add(sequence, sequence.token_ids)


@pytest.mark.parametrize(
    "n_steps", [200, pytest.param(2000, marks=pytest.mark.slow)], ids=["some", "many"]
)
@pytest.mark.parametrize("name", _TINY)
def test_work_in_little_memory(
    name: str, n_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = conformance_model(name, tmp_path / "model.gguf")
    ample = jitllm.load(file, n_ctx=1024, n_threads=1, progress=False)
    monkeypatch.setattr(
        "jitllm.llm.state.engine.sizes_within",
        lambda _, graph, *__: Sizes((24,) * len(graph.caches), 9),
    )
    model = jitllm.load(file, n_ctx=1024, n_threads=1, progress=False)
    with ample, model:
        work = Work(model, ample, tmp_path / "one.state")
        for _ in range(n_steps):
            work.step()
            work.check()
        assert work.n_refused > n_steps // 50
        for sequence in work.sequences:
            sequence.close()
        assert model.memory()["caches_used"] == ample.memory()["caches_used"] == 0
