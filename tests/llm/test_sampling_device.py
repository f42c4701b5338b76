"""Logits stay on the device where a token or the largest are enough, and nothing else changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_logits import DrawingProgram, KeepingProgram, keep_logits
from driver import opens, simulate_cuda
from host_draw import chosen
from hypothesis import given, settings
from hypothesis import strategies as st
from models import model_path

import jitllm
from jitllm.backends._gpu.program import GpuProgram
from jitllm.llm.sampling import SamplingParams, chain
from jitllm.llm.sampling.base import Candidates
from jitllm.llm.sampling.top_k import TopK

V, TEXT, EOGS = 600, "Once upon a time", (2, 3)
COLD: dict[str, Any] = {"temperature": 0.0}
DRY: dict[str, Any] = {"dry_multiplier": 0.8, "dry_sequence_breakers": ()}
BIAS: dict[str, Any] = {"logit_bias": {5: -3.0, 9: float("-inf"), 77: 0.0}, "ignore_eos": True}
SEVERAL: list[dict[str, Any]] = [
    COLD, {}, {"top_k": 1}, {"top_k": 128}, {"top_p": 0.5}, {"min_p": 0.2, "min_keep": 3},
    {"typical_p": 0.4}, {"typical_p": 0.7, "min_keep": 5}, {"dynatemp_range": 0.5},
    {"xtc_probability": 0.7, "xtc_threshold": 0.05}, {"temperature": 3.0, "top_p": 1.0},
    {"repetition_penalty": 1.3, "penalty_last_n": 20}, {**COLD, "presence_penalty": 0.5},
    {"frequency_penalty": 0.3, "penalty_last_n": -1}, DRY, {**DRY, **COLD}, BIAS, {**BIAS, **COLD},
    {**DRY, **BIAS, "repetition_penalty": 1.1, "top_k": 20},
    {"samplers": "top_k;adaptive_p", "adaptive_target": 0.3},
    {"samplers": "top_k:30;top_n_sigma:1;temperature:1.2"},
]  # fmt: skip


DRAWN: list[dict[str, Any]] = [
    COLD, {}, {"top_k": 1}, {"top_k": 128, "top_p": 0.5}, {"min_p": 0.2, "min_keep": 3},
    {"typical_p": 0.4}, {"typical_p": 0.7, "min_keep": 5, "temperature": 2.0, "top_p": 0.7},
    {"samplers": "top_k:30;top_n_sigma:1;temperature:1.2"}, {"samplers": "top_k:9;greedy"},
]  # fmt: skip


def _logits(rng: np.random.Generator, kind: int) -> Any:
    """Random logits: far apart, with many equal ones, or mostly impossible."""
    x = rng.normal(0, 4, V).astype(np.float32)
    if kind == 1:
        x = np.round(x)
    if kind == 2:
        x[rng.permutation(V)[7:]] = -np.inf
    return x


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEVERAL), st.integers(0, 2**32 - 1))
def test_the_largest_give_the_same_tokens(wishes: dict[str, Any], seed: int) -> None:
    rng, params = np.random.default_rng(seed), SamplingParams.create(**wishes, seed=seed)
    whole = chain(params, n_vocab=V, eog_ids=EOGS)
    part = whole.clone()
    for step in range(12):
        logits = _logits(rng, step % 3)
        n = part.needs()
        assert n is not None and 0 < n <= V
        ids = np.sort(np.argsort(-logits, kind="stable")[:n]).astype(np.int32)
        token = part.sample_from(Candidates(logits[ids], ids, V))
        assert token == whole.sample(logits)
        if step % 4:  # often one that is likely to come again
            token = int(logits.argmax())
        whole.accept(token)
        part.accept(token)
    assert str(whole.state()) == str(part.state())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DRAWN), st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_who_draws_makes_no_difference(wishes: dict[str, Any], seed: int, devices: int) -> None:
    """Some of the tokens are chosen elsewhere, others here."""
    rng, params = np.random.default_rng(seed), SamplingParams.create(**wishes, seed=seed)
    here = chain(params, n_vocab=V, eog_ids=EOGS)
    there = here.clone()
    for step in range(12):
        logits = _logits(rng, step % 3)
        draw, state = there.draw(), str(there.state())
        assert draw is not None and draw == there.draw() and state == str(there.state())
        if devices >> step % 3 & 1:
            token = chosen(logits, draw)[0]
            there.drawn()
            assert there.last is None
        else:
            token = there.sample(logits)
        assert token == here.sample(logits)
        assert str(here.state()) == str(there.state())


@pytest.mark.parametrize(
    "wishes",
    [
        {"top_k": 0}, {"repetition_penalty": 1.1}, DRY, BIAS, {"mirostat": 2}, {"top_n_sigma": 1.0},
        {"xtc_probability": 0.5}, {"dynatemp_range": 0.5}, {"samplers": "top_k;temperature:0"},
        {"samplers": "top_k;adaptive_p", "adaptive_target": 0.3}, {"samplers": "temperature;top_k"},
    ],
)  # fmt: skip
def test_what_devices_do_not_draw(wishes: dict[str, Any]) -> None:
    assert chain(SamplingParams.create(**wishes), n_vocab=V, eog_ids=EOGS).draw() is None


def test_own_samplers_draw_on_the_host() -> None:
    class Half(TopK):
        """Changes what is done; what it says of itself is inherited."""

        def apply(self, candidates: Candidates) -> None:
            candidates.keep(slice(self.k // 2))

    class Named(TopK):
        """Changes nothing."""

    processed = chain("top_k:3", logits_processors=[lambda ids, logits: None])
    for built in (chain(Half(8)), chain("top_k:9", lambda ids, logits: None), processed):
        assert built.draw() is None
    assert chain(Named(8), seed=3).draw() == chain("top_k:8", seed=3).draw() is not None


@pytest.mark.parametrize(
    ("wishes", "n"),
    [
        (COLD, 1), ({}, 40), ({"top_k": 7, "top_p": 0.1}, 7), ({"top_k": 0}, None), (BIAS, 45),
        ({"mirostat": 2}, None), ({"top_n_sigma": 1.0}, None), ({"logit_bias": {4: 1.0}}, None),
        ({"samplers": "top_p;top_k"}, None), ({"samplers": "temperature;top_k"}, None),
        ({"repetition_penalty": 1.1}, 42), ({"repetition_penalty": 0.9}, None),
        ({"presence_penalty": -0.1, "repetition_penalty": 1.1}, None), ({**DRY, "top_k": 0}, None),
        ({**DRY, "frequency_penalty": 0.5}, 45), ({"frequency_penalty": 0.5, "top_k": 0}, None),
    ],
)  # fmt: skip
def test_how_many_are_needed(wishes: dict[str, Any], n: int | None) -> None:
    built = chain(SamplingParams.create(**wishes), n_vocab=V, eog_ids=EOGS)
    built.accept_many([3, 8, 3])
    assert built.needs() == n
    processed = chain(
        SamplingParams.create(**wishes), eog_ids=EOGS, logits_processors=[lambda ids, logits: None]
    )
    assert processed.needs() is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_unusable_logits_say_so(wrong: float) -> None:
    logits = np.full(V, wrong, np.float32)
    for params in (SamplingParams(), SamplingParams(temperature=0.0)):
        built = chain(params, n_vocab=V)
        with pytest.raises(ValueError, match=r"logits are -inf|largest logit is (nan|inf)"):
            built.sample_from(Candidates(logits[:1], np.zeros(1, np.int32), V))


@pytest.fixture
def plain() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), device="cpu", progress=False) as model:
        yield model


@pytest.fixture
def model() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), device="cpu", progress=False) as model:
        yield model


@pytest.fixture(params=[False, True], ids=["best", "draw"])
def program(request: pytest.FixtureRequest, model: jitllm.Model) -> KeepingProgram:
    """What runs `model`, which keeps its logits."""
    return keep_logits(model, is_drawing=request.param)


def test_each_token_copies_the_id_or_the_largest_alone(
    plain: jitllm.Model, model: jitllm.Model, program: KeepingProgram
) -> None:
    sizes = (4, 4) if isinstance(program, DrawingProgram) else (8, 320)
    several = COLD, {"seed": 5}, {"seed": 5, **DRY, "top_k": 3}
    for wishes, n_bytes in zip(several, (*sizes, 0), strict=True):
        with model.sequence(TEXT) as sequence:
            _ = sequence.logits
            program.n_bytes = 0
            tokens = sequence.generate(max_tokens=11, **wishes).token_ids
            if n_bytes:
                assert program.n_bytes == 10 * n_bytes  # the first token's are here
        assert tokens == plain.generate(TEXT, max_tokens=11, **wishes).token_ids


def test_several_at_once(plain: jitllm.Model, model: jitllm.Model, program: KeepingProgram) -> None:
    prompts = ["Once", "A big dog", "The"]
    wishes: dict[str, Any] = {"seed": 3, "max_tokens": 9, "n": 2}
    found = model.generate(prompts, **wishes)
    each = 4 if isinstance(program, DrawingProgram) else 320
    assert program.n_bytes == 3 * 320 + 6 * 8 * each  # samples share a prompt
    expected = plain.generate(prompts, **wishes)
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]


def test_streams_that_take_turns_do_not_disturb_each_other(
    model: jitllm.Model, program: KeepingProgram
) -> None:
    with model.sequence(TEXT) as one, model.sequence("The big") as other:
        streams = [s.generate(stream=True, max_tokens=9, **COLD) for s in (one, other)]
        for step in range(9):
            for stream in streams:
                next(stream)
            if not step:
                program.n_bytes = 0  # of prompts all logits are here
        assert program.n_bytes == 2 * 8 * (4 if isinstance(program, DrawingProgram) else 8)


@pytest.mark.parametrize(
    "wishes", [{"logprobs": 2}, {"top_k": 0}, {"logits_processors": lambda ids, logits: None}]
)
def test_all_are_copied_where_all_are_needed(
    plain: jitllm.Model, model: jitllm.Model, program: KeepingProgram, wishes: dict[str, Any]
) -> None:
    found = model.generate(TEXT, seed=1, max_tokens=4, **wishes)
    assert program.n_bytes >= 4 * 4 * model.n_vocab
    expected = plain.generate(TEXT, seed=1, max_tokens=4, **wishes)
    assert (found.token_ids, found.logprobs) == (expected.token_ids, expected.logprobs)


def _stopped(model: jitllm.Model) -> Any:
    """A sequence behind a token that was not appended: the device has its logits."""
    sequence = model.sequence(TEXT)
    first = sequence.fork().generate(max_tokens=3, **COLD).token_ids
    result = sequence.generate(max_tokens=9, stop_token_ids=first[2:], **COLD)
    assert result.finish_reason == "stop" and sequence.n_pending == 0
    return sequence


def test_logits_can_be_had_later(
    plain: jitllm.Model, model: jitllm.Model, program: KeepingProgram, tmp_path: Path
) -> None:
    expected = _stopped(plain).logits
    for use in (
        lambda s: None,
        lambda s: model.generate("Tom", max_tokens=2),
        lambda s: s.fork().append([5, 6]),
        lambda s: s.generate(max_tokens=1, seed=4, top_k=50) and s.truncate(len(s) - 1),
        lambda s: model.forward([1, 2]),
    ):
        with _stopped(model) as sequence:
            use(sequence)
            np.testing.assert_array_equal(sequence.logits, expected)
            np.testing.assert_array_equal(sequence.fork().logits, expected)
    sequence = _stopped(model)
    before = program.n_bytes
    sequence.save(tmp_path / "a.state")
    np.testing.assert_array_equal(model.load_sequence(tmp_path / "a.state").logits, expected)
    assert program.n_bytes == before + expected.nbytes
    kept = _stopped(model)
    model.engine.use(model.engine.graph)  # which has another program
    np.testing.assert_array_equal(kept.logits, expected)


def test_what_nobody_has_is_not_copied(model: jitllm.Model, program: KeepingProgram) -> None:
    sequence = _stopped(model)
    program.n_bytes = 0
    sequence.close()
    model.generate("Tom", max_tokens=3, **COLD)
    assert program.n_bytes == 3 * (4 if isinstance(program, DrawingProgram) else 8)


def test_unusable_logits_are_an_error(
    model: jitllm.Model, program: KeepingProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = program.program.run
    monkeypatch.setattr(program.program, "run", lambda *batch: whole(*batch) * np.float32(np.nan))
    for wishes in (COLD, {"seed": 1}):
        with pytest.raises(jitllm.SamplingError, match="the largest logit is nan"):
            model.generate(TEXT, max_tokens=2, **wishes)


def _count(program: Any, copy: str, patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the bytes of every "download" or "upload" of a device."""
    kind, sizes = type(program._memory["best"]), list[int]()
    original = getattr(kind, copy)

    def counted(self: Any, data: Any, start: int = 0) -> None:
        sizes.append(data.nbytes)
        original(self, data, start)

    patch.setattr(kind, copy, counted)
    return sizes


@pytest.mark.parametrize("device", ["cuda", "metal", "vulkan"])
def test_devices_give_the_same_tokens(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each token 4 bytes come back; up go what a run is, and page tables."""
    simulate_cuda(monkeypatch)
    if not opens(device):
        pytest.skip(f"no device for {device} here")
    several: list[dict[str, Any]] = [COLD, {"seed": 1}, {"seed": 2, "repetition_penalty": 1.3}]
    batch: dict[str, Any] = {"seed": 3, "max_tokens": 4, "n": 2, "top_k": 100, "typical_p": 0.9}
    with jitllm.load(model_path("stories260K"), device=device, progress=False) as model:
        with monkeypatch.context() as patch:
            patch.setattr(GpuProgram, "most_best", 128)  # also where a processor does the work
            down, up = (_count(model.engine._program, c, patch) for c in ("download", "upload"))
            found = [model.generate(TEXT, max_tokens=5, **wishes).token_ids for wishes in several]
            assert down[:11] == [4] * 10 + [8 * 64]
            assert len(up) == 2 * 15 and max(up[2:10]) < 300  # page tables, and what a run is
            down.clear()
            several_found = model.generate(["Once", "A big dog"], **batch)
            assert down == [8 * 128 * 2] + [4 * 4] * 3  # samples share a prompt
            logits = _stopped(model).logits
        with monkeypatch.context() as patch:
            patch.setattr(GpuProgram, "most_best", 0)
            expected = [model.generate(TEXT, max_tokens=5, **wishes) for wishes in several]
            assert found == [result.token_ids for result in expected]
            expected = model.generate(["Once", "A big dog"], **batch)
            assert [r.token_ids for r in several_found] == [r.token_ids for r in expected]
            np.testing.assert_array_equal(_stopped(model).logits, logits)
