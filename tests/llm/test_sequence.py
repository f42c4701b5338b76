"""Sequences: whatever was done to them, they are what a fresh one with the same tokens is."""

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import devices
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.state.reserve import MAX_TOKENS

TEXT = "Once upon a time there was a little girl who had a big red ball."


def assert_same(model: jitllm.Model, got: Any, expected: Any) -> None:
    """Bits on the CPU; the reference backend may sum in another order for another batch."""
    if model.device == "cpu":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3)


def test_copies_are_forks(reference: jitllm.Model) -> None:
    with reference.sequence("Once") as sequence:
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"neither copied nor pickled: fork\(\) it"):
                make(sequence)


def test_append_in_pieces_is_append_at_once(stories: jitllm.Model) -> None:
    ids = stories.tokenize(TEXT)
    expected = stories.forward(ids)
    with stories.sequence() as sequence:
        for i, token in enumerate(ids):
            assert sequence.append([token]) is sequence
            assert_same(stories, sequence.logits, expected[i])
        assert sequence.token_ids == ids
        assert len(sequence) == len(ids)
    with stories.sequence(ids[:7]).append(ids[7:]) as sequence:
        assert_same(stories, sequence.logits, expected[-1])


def test_texts_appended_in_pieces_are_the_text(stories: jitllm.Model) -> None:
    pieces = ["Once up", "on a", " time", "\n", "é", "  x"]
    with stories.sequence() as sequence:
        for piece in pieces:
            sequence.append(piece)
        ids = sequence.token_ids
    assert stories.tokenizer is not None
    assert stories.tokenizer.decode(ids, skip_special=True) == " " + "".join(pieces)
    assert stories.tokenizer.decode(ids[1:]) == "".join(pieces)
    with stories.sequence(ids[:1]).append("Once") as sequence:
        assert sequence.token_ids == stories.tokenize("Once")


@pytest.mark.parametrize("n_tokens", [1, 5, -1, -3])
def test_truncate_is_as_if_never_longer(stories: jitllm.Model, n_tokens: int) -> None:
    ids = stories.tokenize(TEXT)
    with stories.sequence(ids) as sequence:
        sequence.truncate(n_tokens)
        assert sequence.token_ids == ids[:n_tokens]
        assert_same(stories, sequence.logits, stories.forward(ids[:n_tokens])[-1])
        sequence.append(ids[-4:])
        whole = ids[:n_tokens] + ids[-4:]
        assert_same(stories, sequence.logits, stories.forward(whole)[-1])


def test_truncate_to_nothing_and_too_far(stories: jitllm.Model) -> None:
    with stories.sequence(TEXT) as sequence:
        with pytest.raises(ValueError, match="expected at most"):
            sequence.truncate(len(sequence) + 1)
        sequence.truncate(0)
        assert sequence.nbytes == 0
        with pytest.raises(ValueError, match="with tokens, got an empty one"):
            _ = sequence.logits
        sequence.append("Once")
        assert_same(stories, sequence.logits, stories.forward("Once")[-1])


def test_forks_are_independent(stories: jitllm.Model) -> None:
    ids = stories.tokenize(TEXT)
    base = stories.sequence(ids)
    a, b = base.fork(), base.fork()
    a.append([400])
    b.append([401, 402])
    base.truncate(3).append([403])
    assert_same(stories, a.logits, stories.forward([*ids, 400])[-1])
    assert_same(stories, b.logits, stories.forward([*ids, 401, 402])[-1])
    assert_same(stories, base.logits, stories.forward([*ids[:3], 403])[-1])
    for sequence in (a, b, base):
        sequence.close()
    assert stories.memory()["caches_used"] == 0


def test_logits_are_the_callers(stories: jitllm.Model) -> None:
    with stories.sequence("Once") as sequence:
        logits = sequence.logits
        logits[:] = 0
        assert sequence.logits.any()
        assert logits.dtype == np.float32 and logits.shape == (stories.n_vocab,)


@pytest.mark.parametrize("device", devices())
def test_a_full_context(device: str) -> None:
    path = model_path("stories260K")
    with jitllm.load(path, device=device, n_ctx=66, progress=False) as model:
        ids = [1] + [300 + i for i in range(65)]
        sequence = model.sequence(ids)
        with pytest.raises(jitllm.ContextLengthExceeded, match="at most 66 .* got 66 \\+ 1"):
            sequence.append([5])
        assert sequence.token_ids == ids
        assert_same(model, sequence.logits, model.forward(ids, rows=-1)[0])
        with pytest.raises(jitllm.ContextLengthExceeded):
            model.forward([1] * 67)


def test_closed(stories: jitllm.Model) -> None:
    sequence = stories.sequence("Once")
    sequence.close()
    sequence.close()
    assert "closed" in repr(sequence)
    for use in (lambda: sequence.append("a"), lambda: sequence.logits, sequence.fork):
        with pytest.raises(jitllm.ClosedError, match="Model.sequence"):
            use()


def test_a_forgotten_sequence_gives_its_pages_back(stories: jitllm.Model) -> None:
    sequence = stories.sequence("Once")
    assert stories.memory()["caches_used"] > 0
    del sequence
    gc.collect()
    assert stories.memory()["caches_used"] == 0


def test_wrong_tokens(stories: jitllm.Model) -> None:
    sequence = stories.sequence("Once")
    with pytest.raises(ValueError, match="expected ids from 0 to 511, got 512"):
        sequence.append([512])
    with pytest.raises(ValueError, match="got -1"):
        sequence.append([-1])
    with pytest.raises(TypeError, match="expected a text or token ids"):
        sequence.append([1.5])  # type: ignore[list-item]
    sequence.close()


def test_interrupt_inside_a_run_keeps_whole_tokens(stories: jitllm.Model) -> None:
    ids = stories.tokenize(TEXT)
    sequence = stories.sequence(ids[:6])

    def interrupt(x: Any, hook: Any) -> None:
        raise KeyboardInterrupt

    with stories.hooks({"blk.3.l_out": interrupt}), pytest.raises(KeyboardInterrupt):
        sequence.append(ids[6:])
    assert sequence.token_ids == ids[:6]
    assert_same(stories, sequence.logits, stories.forward(ids[:6])[-1])
    sequence.append(ids[6:])
    assert_same(stories, sequence.logits, stories.forward(ids)[-1])
    sequence.close()


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose layers see different windows."""
    return conformance_model("gemma3-dense", tmp_path_factory.mktemp("model") / "gemma3.gguf")


@pytest.mark.parametrize("device", devices())
def test_sliding_windows(windowed: Path, device: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 128, 500).tolist()
    with jitllm.load(windowed, device=device, n_ctx=512, progress=False) as model:
        window = max(spec.window for spec in model.engine.graph.caches)
        assert 0 < window < 300
        assert model.tokenizer is None
        expected = model.forward(ids)
        with model.sequence() as sequence:
            for start in range(0, 500, 100):
                sequence.append(ids[start : start + 100])
                assert_same(model, sequence.logits, expected[start + 99])
            for n_tokens in (490, 400, 210, 100):
                sequence.truncate(n_tokens)
                assert_same(model, sequence.logits, expected[n_tokens - 1])
            sequence.append(ids[100:200])
            assert_same(model, sequence.logits, expected[199])


def test_long_prompts_come_in_pieces(windowed: Path) -> None:
    ids = [i % 128 for i in range(MAX_TOKENS + 70)]
    with jitllm.load(windowed, device="cpu", n_ctx=1024, progress=False) as model:
        logits = model.forward(ids, rows=[0, MAX_TOKENS, -1])
        with model.sequence(ids) as sequence:
            assert_same(model, sequence.logits, logits[2])
        assert_same(model, model.forward(ids[:1]), logits[:1])
