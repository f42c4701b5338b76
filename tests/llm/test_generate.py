"""Generation: the loop against plain forward passes, its ends, streams, scores, interrupts."""

import asyncio
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import model_path

import jitllm
from jitllm.llm.stops import StopStrings

PROMPT = "Once upon a time"


def test_greedy_is_argmax_over_forward(stories: jitllm.Model) -> None:
    ids = stories.tokenize(PROMPT)
    expected = list(ids)
    for _ in range(24):
        expected.append(int(stories.forward(expected, rows=-1)[0].argmax()))
    result = stories.generate(PROMPT, max_tokens=24, temperature=0)
    assert result.prompt_token_ids == ids
    assert result.token_ids == expected[len(ids) :]
    assert result.finish_reason == "length"
    assert result.usage == type(result.usage)(len(ids), 24)
    assert result.timings.decode_tokens == 23
    assert stories.detokenize(expected).endswith(result.text)


def test_samplers_are_applied_to_forward(reference: jitllm.Model) -> None:
    ids, kwargs = reference.tokenize(PROMPT), {"seed": 7, "temperature": 1.5, "min_p": 0.01}
    params = jitllm.SamplingParams(**kwargs, repetition_penalty=1.3)  # type: ignore[arg-type]
    chain = jitllm.samplers.chain(params, n_vocab=reference.n_vocab)
    chain.accept_many(ids)
    expected = list(ids)
    with reference.sequence(ids) as sequence:
        for _ in range(20):
            token = chain.sample(sequence.logits)
            chain.accept(token)
            sequence.append([token])
            expected.append(token)
    result = reference.generate(PROMPT, params, max_tokens=20)
    assert result.token_ids == expected[len(ids) :]
    own = jitllm.samplers.chain(params, n_vocab=reference.n_vocab)
    assert reference.generate(PROMPT, max_tokens=20, sampler=own).token_ids == result.token_ids


def test_seeds(reference: jitllm.Model) -> None:
    wild: dict[str, Any] = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

    def ids(prompts: Any, **kwargs: Any) -> list[list[int]]:
        return [r.token_ids for r in reference.generate(prompts, max_tokens=10, **wild, **kwargs)]

    first, second = ids([PROMPT, "The dog"], seed=3)
    assert first == reference.generate(PROMPT, max_tokens=10, seed=3, **wild).token_ids
    assert second != first
    both = ids([PROMPT, "The dog"], seed=3, n=2)
    assert [both[0], both[2]] == [first, second]
    assert both[1] == ids([PROMPT], seed=4)[0] != first
    drawn = ids(PROMPT, n=3)
    assert len({tuple(each) for each in drawn}) == 3
    assert reference.memory()["caches_used"] == 0


def test_stream_joined_is_the_text(stories: jitllm.Model) -> None:
    whole = stories.generate(PROMPT, max_tokens=40, seed=5, temperature=1.2)
    stream = stories.generate(PROMPT, max_tokens=40, seed=5, temperature=1.2, stream=True)
    with pytest.raises(RuntimeError, match="expected a finished stream"):
        _ = stream.result
    chunks = list(stream)
    assert "".join(chunk.text for chunk in chunks) == whole.text == stream.result.text
    ids = [chunk.token_id for chunk in chunks if chunk.token_id is not None]
    assert ids == whole.token_ids
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == whole.finish_reason == "length"
    assert list(stream) == []


@pytest.mark.parametrize("stop", ["girl", "little g", " there was a", "e", ["xyz", "named"]])
def test_stop_strings(reference: jitllm.Model, stop: str | list[str]) -> None:
    plain = reference.generate(PROMPT, max_tokens=40, temperature=0).text
    first = min(plain.find(s) for s in ([stop] if isinstance(stop, str) else stop) if s in plain)
    chunks = list(reference.stream(PROMPT, max_tokens=40, temperature=0, stop=stop))
    assert "".join(chunk.text for chunk in chunks) == plain[:first]
    result = reference.last_result
    assert result is not None and result.finish_reason == "stop"
    assert reference.detokenize(result.token_ids).find(plain[: first + 1].strip()) >= 0


@given(st.text("ab"), st.lists(st.text("ab", min_size=1), max_size=3), st.data())
def test_stops_do_not_depend_on_the_pieces(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    finder, shown, seen = StopStrings(stops), "", ""
    while len(seen) < len(text) and finder.found is None:
        size = data.draw(st.integers(1, 4))
        shown += finder.put(text[len(seen) : len(seen) + size])
        seen += text[len(seen) : len(seen) + size]
        assert not any(stop in shown for stop in stops)
        assert seen.startswith(shown)
    shown += finder.flush()
    places = [text.find(stop) for stop in stops if stop in seen]
    assert shown == (seen[: min(places)] if places else text)


def test_stop_tokens_and_end_of_text(reference: jitllm.Model) -> None:
    plain = reference.generate(PROMPT, max_tokens=10, temperature=0)
    assert plain.token_ids.index(plain.token_ids[4]) == 4
    result = reference.generate(
        PROMPT, max_tokens=10, temperature=0, stop_token_ids=(plain.token_ids[4],)
    )
    assert (result.token_ids, result.finish_reason) == (plain.token_ids[:4], "stop")
    eos = {2: 1000.0}
    result = reference.generate(PROMPT, max_tokens=10, temperature=0, logit_bias=eos)
    assert (result.text, result.token_ids, result.finish_reason) == ("", [], "stop")
    result = reference.generate(
        PROMPT, max_tokens=3, temperature=0, logit_bias={2: 50.0}, ignore_eos=True
    )
    assert len(result.token_ids) == 3


def test_no_tokens_and_a_full_context() -> None:
    path = model_path("stories260K")
    with jitllm.load(path, device="reference", n_ctx=16, progress=False) as model:
        assert model.generate(PROMPT, max_tokens=0, prompt_logprobs=0).finish_reason == "length"
        result = model.generate(PROMPT, temperature=0)
        assert result.finish_reason == "length"
        assert result.usage.total_tokens == 16
        with pytest.raises(jitllm.ContextLengthExceeded):
            model.generate([1] * 17)
        assert model.memory()["caches_used"] == 0


def test_logprobs_are_those_of_forward(stories: jitllm.Model) -> None:
    result = stories.generate(PROMPT, max_tokens=12, seed=1, logprobs=3, prompt_logprobs=1)
    ids = result.prompt_token_ids + result.token_ids
    logits = stories.forward(ids).astype(np.float64)
    table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert result.prompt_logprobs is not None and result.logprobs is not None
    entries = result.prompt_logprobs + result.logprobs
    assert [entry.token_id for entry in entries] == ids
    assert entries[0].logprob is None
    got = np.array([entry.logprob for entry in entries[1:]], np.float64)
    np.testing.assert_allclose(got, table[np.arange(len(ids) - 1), ids[1:]], atol=2e-3)
    for row, entry in zip(table[len(result.prompt_token_ids) - 1 :], result.logprobs, strict=False):
        assert [i for i, _, _ in entry.top] == np.argsort(-row)[:3].tolist()
    total, _ = stories.loglikelihood(result.prompt_token_ids, result.token_ids)
    np.testing.assert_allclose(sum(e.logprob or 0 for e in result.logprobs), total, atol=2e-3)
    assert "".join(entry.token for entry in result.logprobs) == result.text


def test_logits_processors(reference: jitllm.Model) -> None:
    seen: list[list[int]] = []

    def only_500(ids: Any, logits: Any) -> Any:
        seen.append(ids.tolist())
        logits[:500] = -np.inf
        return logits

    result = reference.generate(PROMPT, max_tokens=4, logits_processors=[only_500])
    assert min(result.token_ids) >= 500
    assert seen[0] == result.prompt_token_ids
    assert seen[3] == result.prompt_token_ids + result.token_ids[:3]


def test_a_sequence_goes_on(stories: jitllm.Model) -> None:
    whole = stories.generate(PROMPT, max_tokens=12, temperature=0)
    with stories.sequence(PROMPT) as sequence:
        first = sequence.generate(max_tokens=5, temperature=0)
        second = sequence.generate(max_tokens=7, temperature=0)
        assert first.token_ids + second.token_ids == whole.token_ids
        assert sequence.token_ids == whole.prompt_token_ids + whole.token_ids
        with pytest.raises(ValueError, match="fork the sequence"):
            sequence.generate(n=2)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"temprature": 1}, jitllm.SamplingError, "did you mean 'temperature'"),
        ({"params": {"seed": 1}}, TypeError, "expected SamplingParams, got dict"),
        ({"n": 2, "stream": True}, ValueError, "expected one prompt and n=1 for a stream"),
        ({"n": 2, "sampler": "greedy"}, ValueError, "expected n=1 with a sampler"),
    ],
)
def test_wrong_arguments(
    reference: jitllm.Model, kwargs: dict[str, Any], error: type[Exception], match: str
) -> None:
    if "sampler" in kwargs:
        kwargs = {**kwargs, "sampler": jitllm.samplers.chain("greedy")}
    with pytest.raises(error, match=match):
        reference.generate(PROMPT, **kwargs)


def test_empty_prompts(reference: jitllm.Model) -> None:
    assert reference.generate("", max_tokens=3).prompt_token_ids == [1]
    with pytest.raises(ValueError, match="expected a prompt with tokens"):
        reference.generate([], max_tokens=3)
    with pytest.raises(ValueError, match="in prompt 1"):
        reference.generate([[1], []], max_tokens=3)


def _interrupt_soon(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_interrupt_returns_soon_and_keeps_whole_tokens(stories: jitllm.Model) -> None:
    with stories.sequence(PROMPT) as sequence:
        _interrupt_soon(0.1)
        start = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):
                sequence.truncate(5).generate(ignore_eos=True)
        assert time.perf_counter() - start < 0.1 + 0.2
        result = stories.last_result
        assert result is not None and result.finish_reason == "cancelled"
        ids = sequence.token_ids
        assert ids[: 5 + len(result.token_ids)] == result.prompt_token_ids + result.token_ids
        np.testing.assert_allclose(
            sequence.logits, stories.forward(ids, rows=-1)[0], atol=0 if _exact(stories) else 2e-3
        )


def _exact(model: jitllm.Model) -> bool:
    return model.device == "cpu"


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_interrupted_show_keeps_what_there_is(
    stories: jitllm.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(ids: Any, logits: Any) -> None:
        time.sleep(0.005)

    _interrupt_soon(0.1)
    stream = stories.stream(PROMPT, ignore_eos=True, logits_processors=[slow])
    assert stream.show() is None  # type: ignore[func-returns-value]
    result = stream.result
    assert result.finish_reason == "cancelled"
    assert 0 < len(result.token_ids) < 100
    assert capsys.readouterr().out == result.text + "\n"
    assert stories.memory()["caches_used"] == 0


def test_closed_from_inside_a_step(reference: jitllm.Model) -> None:
    def close(ids: Any, logits: Any) -> None:
        if len(ids) == 8:
            stream.close()

    stream = reference.stream(PROMPT, ignore_eos=True, logits_processors=[close])
    assert len(list(stream)) == len(stream.result.token_ids) == 4
    assert stream.result.finish_reason == "cancelled"


def test_cancel_and_close(reference: jitllm.Model) -> None:
    stream = reference.stream(PROMPT, ignore_eos=True)
    next(stream)
    stream.cancel()
    assert stream.result.finish_reason == "cancelled"
    assert len(stream.result.token_ids) == 1
    with reference.stream(PROMPT, ignore_eos=True) as stream:
        next(stream)
        next(stream)
    assert len(stream.result.token_ids) == 2
    unused = reference.stream(PROMPT)
    unused.close()
    assert unused.result.token_ids == []
    assert reference.memory()["caches_used"] == 0


def test_async(stories: jitllm.Model) -> None:
    async def both() -> tuple[Any, str, Any]:
        result = await stories.agenerate(PROMPT, max_tokens=8, seed=2)
        running = stories.agenerate(PROMPT, max_tokens=8, seed=2, stream=True)
        text = "".join([chunk.text async for chunk in running])
        return result, text, running.result

    result, text, streamed = asyncio.run(both())
    assert result.text == text == streamed.text
    assert result.token_ids == stories.generate(PROMPT, max_tokens=8, seed=2).token_ids


def test_async_leaves_the_loop_free_and_cancels(reference: jitllm.Model) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        task = asyncio.create_task(_finish(reference))
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ticking.cancel()

    asyncio.run(main())
    assert ticks > 10
    assert reference.last_result is not None
    assert reference.last_result.finish_reason == "cancelled"
    assert reference.memory()["caches_used"] == 0


async def _finish(model: jitllm.Model) -> jitllm.Generation:
    def slow(ids: Any, logits: Any) -> None:
        time.sleep(0.002)

    return await model.agenerate(PROMPT, ignore_eos=True, logits_processors=[slow])
