"""Random work on many sequences, compared after every step with computing everything anew."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_logits import keep_logits
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm
from jitllm.llm.errors import StateError
from jitllm.llm.request import Request
from jitllm.llm.sampling import SamplerChain
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.together import compute_together
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune

Logits = NDArray[np.float32]

N_CTX, MOST_SEQUENCES, MOST_TEXTS = 1024, 5, 400
_TINY = (
    "llama-dense.gqa", "gemma3-dense.gqa", "mamba2-dense", "jamba-dense", "falcon-h1-dense.gqa",
    "deepseek2-moe.routed", "qwen3next-moe.routed",
)  # fmt: skip
_LENGTHS = st.sampled_from((1, 1, 2, 5, 31, 32, 33, 63, 64, 65, 130, 300, 520))
_PICKS = st.integers(0, 1 << 16)
_SEEDS = st.integers(0, 9)


@dataclass
class Plain:
    """What a sequence should be: its tokens, and how its generation samples."""

    tokens: list[int] = field(default_factory=list)
    chain: SamplerChain | None = None

    def copy(self) -> "Plain":
        return Plain(list(self.tokens), self.chain and self.chain.clone())


class Recomputed:
    """Logits behind any tokens, by a fresh forward."""

    def __init__(self, model: jitllm.Model) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], Logits] = {}

    def __call__(self, tokens: list[int]) -> Logits:
        key = tuple(tokens)
        if key not in self._known:
            if len(self._known) > MOST_TEXTS:
                self._known.clear()
            self._known[key] = self._model.forward(tokens)[-1]
        return self._known[key]


@dataclass
class Live:
    """A sequence, what it should be, and what each of its moments should be."""

    sequence: Sequence
    plain: Plain
    moments: list[Plain] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Does anything that can be done to sequences and one file of theirs."""

    def __init__(self, model: jitllm.Model, logits: Recomputed, path: Path) -> None:
        super().__init__()
        self.model, self.logits, self.path = model, logits, path
        self.live: list[Live] = []
        self.saved: dict[int, Plain] = {}
        path.unlink(missing_ok=True)

    def _pick(self, number: int) -> Live:
        return self.live[number % len(self.live)]

    def _has_room(self) -> bool:
        return len(self.live) < MOST_SEQUENCES

    def _check(self, one: Live) -> None:
        assert one.sequence.token_ids == one.plain.tokens
        if one.plain.tokens:
            assert np.array_equal(one.sequence.logits, self.logits(one.plain.tokens))

    def _tokens(self, one: Live, n: int, seed: int) -> list[int]:
        n = min(n, N_CTX - len(one.plain.tokens))
        return [int(t) for t in np.random.default_rng(seed).integers(0, self.model.n_vocab, n)]

    @precondition(_has_room)
    @rule(n=_LENGTHS, seed=_SEEDS)
    def begin(self, n: int, seed: int) -> None:
        one = Live(self.model.sequence(), Plain())
        one.plain.tokens = self._tokens(one, n, seed)
        one.sequence.append(one.plain.tokens)
        self.live.append(one)

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, n=_LENGTHS, seed=_SEEDS)
    def append(self, pick: int, n: int, seed: int) -> None:
        one = self._pick(pick)
        tokens = self._tokens(one, n, seed)
        one.sequence.append(tokens)
        one.plain.tokens += tokens
        if one.plain.chain:
            one.plain.chain.accept_many(tokens)

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, seed=_SEEDS)
    def push(self, pick: int, seed: int) -> None:
        one = self._pick(pick)
        for token in self._tokens(one, 3, seed):
            one.sequence.push(token)
            one.plain.tokens.append(token)

    @precondition(lambda self: self.live and self._has_room())
    @rule(pick=_PICKS)
    def fork(self, pick: int) -> None:
        one = self._pick(pick)
        self.live.append(Live(one.sequence.fork(), one.plain.copy()))

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, n=st.one_of(_LENGTHS, st.integers(0, N_CTX)))
    def truncate(self, pick: int, n: int) -> None:
        """Drops the last n tokens."""
        one = self._pick(pick)
        n = min(n, len(one.plain.tokens))
        one.sequence.truncate(len(one.plain.tokens) - n)
        if n:
            one.plain = Plain(one.plain.tokens[:-n])

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, start=_PICKS, n=_LENGTHS)
    def remove(self, pick: int, start: int, n: int) -> None:
        """Drops n tokens from the middle; the samplers know them still."""
        one = self._pick(pick)
        start %= len(one.plain.tokens) + 1
        stop = min(start + n, len(one.plain.tokens))
        one.sequence.remove(start, stop, recompute=True)
        del one.plain.tokens[start:stop]

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS)
    def checkpoint(self, pick: int) -> None:
        one = self._pick(pick)
        one.sequence.checkpoint()
        one.moments.append(one.plain.copy())
        if len(one.moments) > 4:
            one.sequence.history.drop(0)
            del one.moments[0]

    @precondition(lambda self: any(one.moments for one in self.live))
    @rule(pick=_PICKS, which=_PICKS)
    def roll_back(self, pick: int, which: int) -> None:
        able = [one for one in self.live if one.moments]
        one = able[pick % len(able)]
        which %= len(one.moments)
        one.sequence.rollback(which)
        one.plain = one.moments[which].copy()

    @precondition(lambda self: any(one.moments for one in self.live) and self._has_room())
    @rule(pick=_PICKS, which=_PICKS)
    def branch(self, pick: int, which: int) -> None:
        able = [one for one in self.live if one.moments]
        one = able[pick % len(able)]
        which %= len(one.moments)
        self.live.append(Live(one.sequence.branch(which), one.moments[which].copy()))

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, only_states=st.booleans())
    def save(self, pick: int, *, only_states: bool) -> None:
        one = self._pick(pick)
        found = one.sequence.save(self.path, only_states=only_states, sync=False)
        assert found.id not in self.saved
        self.saved[found.id] = one.plain.copy()

    @precondition(lambda self: self.saved and self._has_room())
    @rule(which=_PICKS)
    def restore(self, which: int) -> None:
        number = list(self.saved)[which % len(self.saved)]
        sequence = self.model.load_sequence(self.path, number)
        self.live.append(Live(sequence, self.saved[number].copy()))

    @precondition(lambda self: self.saved and self.live)
    @rule(pick=_PICKS, which=_PICKS, only_states=st.booleans() | st.none())
    def restore_in_place(self, pick: int, which: int, *, only_states: bool | None) -> None:
        """Where states alone cannot be put back, nothing changes."""
        one, number = self._pick(pick), list(self.saved)[which % len(self.saved)]
        saved = self.saved[number]
        with StateFile(self.path) as file:
            found = file.get(number)
        if only_states is None:
            only_states = not found.is_whole
        n_done = len(one.sequence) - one.sequence.n_pending
        begins = one.plain.tokens[: len(saved.tokens)] == saved.tokens and n_done >= found.n_done
        if only_states and not begins:
            with pytest.raises(StateError, match="expected a sequence that begins with its"):
                one.sequence.restore(self.path, number, only_states=True)
            return
        one.sequence.restore(self.path, number, only_states=only_states)
        one.plain = saved.copy()
        if found.is_whole or only_states:
            assert len(one.sequence) - one.sequence.n_pending == found.n_done

    @precondition(lambda self: len(self.saved) > 3)
    @rule(data=st.data())
    def prune(self, data: st.DataObject) -> None:
        keep = data.draw(st.sets(st.sampled_from(list(self.saved)), min_size=1))
        max_bytes = data.draw(st.none() | st.integers(0, 1 << 20))
        dropped = prune(self.path, keep=keep, max_bytes=max_bytes)
        for checkpoint in dropped:
            del self.saved[checkpoint.id]
        assert self.saved.keys() <= keep
        with StateFile(self.path) as file:
            assert [c.id for c in file.checkpoints] == list(self.saved)
            assert file.verify() == {} and file.damages == []

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS, n=st.integers(0, 5), seed=_SEEDS)
    def generate(self, pick: int, n: int, seed: int) -> None:
        one = self._pick(pick)
        if not one.plain.tokens:
            return
        wishes: dict[str, Any] = {"temperature": 1.5, "seed": seed, "repetition_penalty": 1.2}
        one.plain.chain = Request.build(self.model, **wishes).chain(self.model, seed)
        one.plain.chain.accept_many(one.plain.tokens)
        expected = self._generated(one.plain, n)
        assert one.sequence.generate(max_tokens=n, **wishes).token_ids == expected

    @precondition(lambda self: any(one.plain.chain and one.plain.tokens for one in self.live))
    @rule(pick=_PICKS, n=st.integers(1, 5))
    def resume(self, pick: int, n: int) -> None:
        able = [one for one in self.live if one.plain.chain and one.plain.tokens]
        one = able[pick % len(able)]
        expected = self._generated(one.plain, n)
        assert one.sequence.resume(max_tokens=n).token_ids == expected

    def _generated(self, plain: Plain, n: int) -> list[int]:
        assert plain.chain
        start = len(plain.tokens)
        while len(plain.tokens) < min(start + n, N_CTX):
            token = plain.chain.sample(self.logits(plain.tokens).copy())
            plain.chain.accept(token)
            plain.tokens.append(token)
        return plain.tokens[start:]

    @precondition(lambda self: len(self.live) > 1)
    @rule()
    def compute_together(self) -> None:
        some = [one for one in self.live if one.plain.tokens]
        compute_together(self.model.engine, [one.sequence.contents for one in some])
        for one in some:
            self._check(one)

    @precondition(lambda self: self.live)
    @rule(pick=_PICKS)
    def check(self, pick: int) -> None:
        self._check(self._pick(pick))

    @precondition(lambda self: len(self.live) > 2)
    @rule(pick=_PICKS)
    def close(self, pick: int) -> None:
        one = self._pick(pick)
        one.sequence.close()
        self.live.remove(one)

    def teardown(self) -> None:
        for one in self.live:
            self._check(one)
            one.sequence.close()
        for number, plain in self.saved.items():
            with self.model.load_sequence(self.path, number) as found:
                self._check(Live(found, plain))
        assert self.model.memory()["caches_used"] == 0


@pytest.fixture(scope="module", params=[*_TINY, *(f"{name} of a device" for name in _TINY[2:4])])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    name, of, _ = request.param.partition(" of a device")
    path = conformance_model(name, tmp_path_factory.mktemp("state") / "model.gguf")
    with jitllm.load(path, n_ctx=N_CTX, n_threads=1, progress=False) as model:
        if of:
            keep_logits(model, is_drawing=True)
        yield model


@pytest.mark.parametrize(
    ("n_runs", "n_steps"),
    [
        pytest.param(4, 50, id="some"),
        pytest.param(100, 60, id="many", marks=pytest.mark.slow),
    ],
)
def test_any_work_gives_what_computing_anew_gives(
    model: jitllm.Model, n_runs: int, n_steps: int, tmp_path: Path
) -> None:
    logits = Recomputed(model)

    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(model, logits, tmp_path / "all.state")

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=n_runs,
            stateful_step_count=n_steps,
            derandomize=n_runs < 100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
