"""Generations that go on when the context is full, on every kind of memory."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.cli import main
from jitllm.llm.commands.chat import Conversation
from jitllm.llm.state.sequence import Sequence

_N_CTX = 80
_MOVES = {
    "llama-dense.gqa": True, "gemma3-dense.gqa": True, "deepseek2-moe.routed": True,
    "mamba2-dense": False, "jamba-dense": False, "gpt2-dense": False,
}  # fmt: skip


@pytest.fixture(scope="module", params=_MOVES)
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, jitllm.Model]]:
    path = conformance_model(request.param, tmp_path_factory.mktemp("shift") / "model.gguf")
    with jitllm.load(path, n_ctx=_N_CTX, n_threads=1, progress=False) as model:
        yield request.param, model


@pytest.fixture(scope="module")
def small() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), n_ctx=96, n_threads=1, progress=False) as model:
        yield model


def _prompt(model: jitllm.Model, n: int = 20) -> list[int]:
    return [int(t) for t in np.random.default_rng(1).integers(3, model.n_vocab, n)]


def _stepwise(
    model: jitllm.Model,
    ids: list[int],
    n_tokens: int,
    place: tuple[int, int],
    recompute: bool,
    **params: Any,
) -> list[int]:
    """Tokens generated one by one, the range `place` taken out by hand when the context is full."""
    chain = jitllm.samplers.chain(jitllm.SamplingParams(**params), n_vocab=model.n_vocab)
    chain.accept_many(ids)
    found: list[int] = []
    with model.sequence(ids) as sequence:
        while len(found) < n_tokens:
            if len(sequence) == model.n_ctx:
                sequence.remove(*place, recompute=recompute)
            found.append(chain.sample(sequence.logits))
            chain.accept(found[-1])
            sequence.append(found[-1:])
    return found


_PENALTIES: dict[str, Any] = {
    "temperature": 1.0, "seed": 4, "repetition_penalty": 1.3, "penalty_last_n": -1,
}  # fmt: skip


def test_each_memory_goes_on_as_its_tokens_are_taken_out_by_hand(
    named: tuple[str, jitllm.Model], caplog: pytest.LogCaptureFixture
) -> None:
    name, model = named
    ids = _prompt(model)
    wishes: dict[str, Any] = {"max_tokens": 90, "n_keep": 7, "n_discard": 30}
    with caplog.at_level(logging.WARNING, "jitllm.generate"):
        result = model.generate(ids, context_shift=True, **wishes, **_PENALTIES)
    assert len(result.token_ids) == 90 and result.finish_reason == "length"
    expected = _stepwise(model, ids, 90, (7, 37), not _MOVES[name], **_PENALTIES)
    assert result.token_ids == expected
    warned = [record.getMessage() for record in caplog.records]
    assert bool(warned) is not _MOVES[name]
    assert all("tokens are computed again without 30 of those before" in text for text in warned)
    assert model.memory()["caches_used"] == 0


def test_computing_again_is_exact(named: tuple[str, jitllm.Model]) -> None:
    _, model = named
    ids = _prompt(model, 70)
    wishes: dict[str, Any] = {"max_tokens": 30, "temperature": 0}
    result = model.generate(ids, context_shift="recompute", n_keep=10, **wishes)
    kept, found = list(ids), []
    for _ in range(30):
        if len(kept) == _N_CTX:
            del kept[10:45]
        found.append(int(model.forward(kept, rows=-1)[0].argmax()))
        kept.append(found[-1])
    assert result.token_ids == found


def test_what_cannot_move_is_told_before_anything_runs(named: tuple[str, jitllm.Model]) -> None:
    name, model = named
    if _MOVES[name]:
        assert len(model.generate([1, 2], max_tokens=100, context_shift="move").token_ids) == 100
        return
    with pytest.raises(jitllm.StateError, match="context_shift=True"):
        model.generate([1, 2], max_tokens=100, context_shift="move")
    assert model.memory()["caches_used"] == 0


def test_it_is_off_by_default_and_keeps_the_beginning(small: jitllm.Model) -> None:
    wishes: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
    short = small.generate("Once upon a time", max_tokens=200, **wishes)
    assert short.usage.total_tokens == small.n_ctx and short.finish_reason == "length"
    with small.sequence("Once upon a time") as sequence:
        long = sequence.generate(max_tokens=300, context_shift=True, **wishes)
        assert long.token_ids[: len(short.token_ids)] == short.token_ids
        assert len(long.token_ids) == 300 and len(sequence) <= small.n_ctx
        assert sequence.token_ids[0] == small.tokenizer.bos_id  # type: ignore[union-attr]
        assert sequence.token_ids[1:] == long.token_ids[1 - len(sequence) :]


def test_many_at_once_samples_streams_and_resumed(small: jitllm.Model) -> None:
    prompts = ["Once upon a time", "The dog", "A big red ball"]
    wishes: dict[str, Any] = {"max_tokens": 150, "seed": 2, "context_shift": True, "n_keep": 3}
    together = small.generate(prompts, **wishes)
    for prompt, result in zip(prompts, together, strict=True):
        assert result.token_ids == small.stream(prompt, **wishes).finish().token_ids
    samples = small.generate(prompts[0], n=3, **wishes)
    assert samples[0].token_ids == together[0].token_ids
    with small.sequence(prompts[0]) as sequence:
        first = sequence.generate(**{**wishes, "max_tokens": 110}).token_ids
        rest = sequence.resume(max_tokens=40).token_ids
        assert first + rest == together[0].token_ids
    assert small.memory()["caches_used"] == 0


@pytest.mark.parametrize("n_keep", [-1, 0, 50, 10**6])
@pytest.mark.parametrize("n_discard", [0, 1, 10**6])
def test_any_wish_leaves_room(small: jitllm.Model, n_keep: int, n_discard: int) -> None:
    ids = _prompt(small, small.n_ctx)  # full from the start
    result = small.generate(
        ids, max_tokens=12, context_shift=True, n_keep=n_keep, n_discard=n_discard
    )
    assert len(result.token_ids) == 12 or result.finish_reason == "stop"


def test_the_whole_prompt_is_kept(small: jitllm.Model) -> None:
    ids = _prompt(small, 40)
    wishes: dict[str, Any] = {"max_tokens": 200, "context_shift": True, "seed": 3}
    with small.sequence(ids) as sequence:
        found = sequence.generate(n_keep=-1, ignore_eos=True, **wishes).token_ids
        assert sequence.token_ids[:40] == ids and len(sequence) <= small.n_ctx
        sequence.resume(max_tokens=100)
        assert sequence.token_ids[:40] == ids
    n_keep = len(ids) - (ids[0] == small.tokenizer.bos_id)  # type: ignore[union-attr]
    assert small.generate(ids, n_keep=n_keep, ignore_eos=True, **wishes).token_ids == found
    talk = Conversation(small, "Be a cat.", {**wishes, "max_tokens": 30, "n_keep": -1}, _TEMPLATE)
    for i in range(9):
        talk.ask(f"What about {i}?")
    text = small.detokenize(talk.sequence.token_ids)
    assert "Be a cat." in text and "What about 0?" in text and "What about 1?" not in text
    talk.sequence.close()


def test_wrong_wishes(small: jitllm.Model) -> None:
    wrong: dict[str, Any]
    for wrong in (
        {"context_shift": "yes"},
        {"context_shift": 1},
        {"n_keep": -2},
        {"n_discard": -1},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            small.generate("a", **wrong)


_TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}assistant:"


def test_a_conversation_goes_on(
    small: jitllm.Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn reads only its own message, however often the context was shifted before."""
    wishes: dict[str, Any] = {"max_tokens": 30, "temperature": 0.0, "ignore_eos": True}
    lengths, append = list[int](), Sequence.append

    def counted(self: Sequence, tokens: list[int]) -> Sequence:
        lengths.append(len(tokens))
        return append(self, tokens)

    monkeypatch.setattr(Sequence, "append", counted)
    talk = Conversation(small, "Be a cat.", {**wishes, "context_shift": True}, _TEMPLATE)
    for i in range(8):
        talk.ask(f"What about {i}?")
        assert len(talk.sequence) <= small.n_ctx
        whole = small.apply_chat_template(talk.messages, template=_TEMPLATE)
        assert small.detokenize(talk.sequence.token_ids)[-25:] in whole
    assert len(small.tokenize(whole)) > 3 * small.n_ctx and max(lengths) < 50
    with pytest.raises(jitllm.ContextLengthExceeded):
        talk.ask("cat " * 200)
    talk.ask("Still there?")
    assert talk.messages[-2]["content"] == "Still there?"
    talk.sequence.close()
    assert capsys.readouterr().out
    without = Conversation(small, "Be a cat.", wishes, _TEMPLATE)
    with pytest.raises(jitllm.ContextLengthExceeded):
        for i in range(8):
            without.ask(f"What about {i}?")
    without.sequence.close()


def test_the_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["run", str(model_path("stories260K")), "Once upon a time", "--temp", "0", "-q"]
    limits = ["-n", "200", "-c", "96", "--repeat-penalty", "1.1"]
    texts = []
    for more in ([], ["--context-shift", "--keep", "3"]):
        assert main([*args, *limits, *more]) == 0
        texts.append(capsys.readouterr().out.strip())
    assert texts[1].startswith(texts[0]) and len(texts[1]) > len(texts[0])


def test_windows_that_lost_cells_move_too(tmp_path: Path) -> None:
    path = conformance_model("gemma3-dense.gqa", tmp_path / "model.gguf")
    with jitllm.load(path, n_ctx=1024, n_threads=1, progress=False) as model:
        wishes: dict[str, Any] = {"temperature": 1.0, "seed": 4}
        ids = _prompt(model, 1010)
        with model.sequence(ids) as sequence:
            assert max(sequence.contents.cells.firsts) > 64
        result = model.generate(
            ids, max_tokens=30, context_shift="move", n_keep=8, n_discard=600, **wishes
        )
        assert result.token_ids == _stepwise(model, ids, 30, (8, 608), False, **wishes)
