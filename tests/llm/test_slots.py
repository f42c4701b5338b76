"""States of sequences: whatever was done to a sequence, it is what a fresh one is."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import devices, nmse
from numpy.typing import NDArray
from tiny import conformance_model

import jitllm
from jitllm.backends.base import StatePool
from jitllm.llm.state.reserve import MAX_TOKENS
from jitllm.llm.state.slots import KEPT, LONG_RUN, SlotPool, StateHistory

IDS: list[int] = np.random.default_rng(0).integers(0, 128, 250).tolist()
MODELS = [(device, "jamba-dense") for device in devices()]  # attention and a scan
MODELS += [("cpu", "mamba2-dense"), ("cpu", "lfm2-dense")]


class Memory(StatePool):
    """A pool that holds nothing."""

    def __init__(self, n_slots: int) -> None:
        self.sizes, self.n_slots = (3, 5), n_slots

    def read(self, slot: int, state: int) -> NDArray[np.float32]:
        raise NotImplementedError

    def write(self, slot: int, state: int, values: NDArray[np.float32]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def _run(history: StateHistory, *ends: int) -> None:
    for n_tokens in ends:
        history.prepare()
        before, after = history.slots
        assert before != after >= 0
        history.commit(n_tokens)
        assert history.slots == (after, -1)


def test_states_at_the_ends_of_long_runs_are_kept() -> None:
    pool = SlotPool(Memory(8))
    history = StateHistory(pool)
    assert history.slots == (-1, -1) and history.nearest(10) == 0
    _run(history, 100, 101, 102)
    assert [history.nearest(n) for n in (99, 100, 101, 102)] == [0, 100, 100, 102]
    _run(history, *range(103, 100 + 10 * LONG_RUN + 1))
    current = 100 + 10 * LONG_RUN
    kept = {history.nearest(n) for n in range(1, current)} - {0}
    assert len(kept) == KEPT and min(kept) >= current - (KEPT + 1) * LONG_RUN
    assert history.nbytes == (KEPT + 1) * 32
    history.release()
    assert pool.n_free == 8


def test_cutting_and_forking_count_the_holders() -> None:
    pool = SlotPool(Memory(8))
    history = StateHistory(pool)
    _run(history, 50, 90)
    twin = history.fork()
    assert twin.slots[0] == history.slots[0] and pool.n_free == 6
    history.cut(60)
    assert (history.nearest(100), twin.nearest(100)) == (50, 90)
    _run(history, 70)
    assert history.slots[0] not in (twin.slots[0], -1)
    history.cut(0)
    assert history.nearest(100) == 0 and history.nbytes == 0
    twin.release()
    assert pool.n_free == 8


def test_without_a_free_slot_earlier_states_are_given_up() -> None:
    pool = SlotPool(Memory(3))
    history = StateHistory(pool)
    _run(history, 100, 200, 300)
    assert history.nearest(299) == 200
    _run(history, 400)
    assert (history.nearest(199), history.nearest(299), history.nearest(399)) == (0, 200, 300)
    other = StateHistory(pool)
    with pytest.raises(jitllm.BackendError, match="all 3 are held; close sequences"):
        other.prepare()
    history.cut(300)
    other.prepare()


@pytest.fixture(scope="module", params=MODELS, ids=str)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    """A tiny model with states, on every device."""
    device, name = request.param
    path = conformance_model(name, tmp_path_factory.mktemp("model") / f"{name}.gguf")
    with jitllm.load(path, device=device, progress=False) as opened:
        yield opened


def assert_same(model: jitllm.Model, got: Any, expected: Any) -> None:
    """Bits on the CPU; the reference backend may sum in another order for another batch."""
    if model.device == "cpu":
        np.testing.assert_array_equal(got, expected)
    else:
        assert nmse(got, expected) < 1e-10


@pytest.fixture(scope="module")
def expected(model: jitllm.Model) -> NDArray[np.float32]:
    """Logits behind every one of IDS."""
    return model.forward(IDS)


def test_pieces_are_the_whole(model: jitllm.Model, expected: NDArray[np.float32]) -> None:
    with model.sequence() as sequence:
        for stop in (1, 2, 3, 40, 41, 100, 250):
            sequence.append(IDS[len(sequence) : stop])
            assert_same(model, sequence.logits, expected[stop - 1])
    assert model.memory()["caches_used"] == 0


def test_truncate_is_as_if_never_longer(model: jitllm.Model, expected: NDArray[np.float32]) -> None:
    with model.sequence() as sequence:
        for stop in (60, 120, 121, 180, 240):
            sequence.append(IDS[len(sequence) : stop])
        for n_tokens in (239, 180, 130, 120, 119, 2):
            sequence.truncate(n_tokens)
            assert_same(model, sequence.logits, expected[n_tokens - 1])
        other = [*IDS[:2], *IDS[100:110]]
        sequence.append(other[2:])
        assert_same(model, sequence.logits, model.forward(other, rows=-1)[0])
        sequence.truncate(0)
        assert sequence.nbytes == 0
        sequence.append(IDS[:5])
        assert_same(model, sequence.logits, expected[4])


def test_a_short_cut_computes_few_tokens_again(model: jitllm.Model) -> None:
    counted = []
    with model.sequence(IDS[:100]) as sequence:
        for token in IDS[100:170]:
            sequence.append([token])
        sequence.truncate(165)
        with model.hooks({"blk.0.l_out": lambda x, hook: counted.append(len(x))}):
            _ = sequence.logits
    assert 0 < sum(counted) <= LONG_RUN + 1


def test_forks_are_independent(model: jitllm.Model, expected: NDArray[np.float32]) -> None:
    base = model.sequence(IDS[:70])
    twin = base.fork()
    twin.append(IDS[70:80])
    base.append(IDS[80:83])
    second = twin.fork()
    second.truncate(30).append(IDS[30:50])
    assert_same(model, twin.logits, expected[79])
    assert_same(model, second.logits, expected[49])
    assert_same(model, base.logits, model.forward([*IDS[:70], *IDS[80:83]], rows=-1)[0])
    twin.close()
    second.append(IDS[50:90])
    assert_same(model, second.logits, expected[89])
    base.close()
    del second
    gc.collect()
    assert model.memory()["caches_used"] == 0


def test_an_interrupt_leaves_the_states_of_whole_tokens(
    model: jitllm.Model, expected: NDArray[np.float32]
) -> None:
    def interrupt(x: Any, hook: Any) -> None:
        raise KeyboardInterrupt

    with model.sequence(IDS[:40]) as sequence:
        with model.hooks({"blk.1.l_out": interrupt}), pytest.raises(KeyboardInterrupt):
            sequence.append(IDS[40:90])
        assert sequence.token_ids == IDS[:40]
        assert_same(model, sequence.logits, expected[39])
        sequence.append(IDS[40:60])
        assert_same(model, sequence.logits, expected[59])


def test_two_sequences_in_turns(model: jitllm.Model, expected: NDArray[np.float32]) -> None:
    with model.sequence() as a, model.sequence() as b:
        for start in range(0, 40, 8):
            a.append(IDS[start : start + 8])
            b.append(IDS[start : start + 5])
        assert_same(model, a.logits, expected[39])
        ids = [i for start in range(0, 40, 8) for i in IDS[start : start + 5]]
        assert_same(model, b.logits, model.forward(ids, rows=-1)[0])


def test_generation_goes_on_from_states(model: jitllm.Model) -> None:
    together = model.generate(IDS[:30], max_tokens=12, temperature=0).token_ids
    with model.sequence(IDS[:30]) as sequence:
        first = sequence.generate(max_tokens=5, temperature=0).token_ids
        rest = sequence.generate(max_tokens=7, temperature=0).token_ids
    assert [*first, *rest] == list(together)


def test_long_prompts_come_in_pieces(tmp_path: Path) -> None:
    path = conformance_model("mamba-dense", tmp_path / "m.gguf")
    ids = [i % 128 for i in range(MAX_TOKENS + 70)]
    with jitllm.load(path, device="cpu", n_ctx=1024, progress=False) as model:
        logits = model.forward(ids, rows=[0, MAX_TOKENS, -1])
        with model.sequence(ids[:300]) as sequence:
            sequence.append(ids[300:])
            assert_same(model, sequence.logits, logits[2])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_loading_and_closing_leaves_nothing(tmp_path: Path) -> None:
    path = conformance_model("mamba2-dense", tmp_path / "m.gguf")

    def once() -> None:
        with jitllm.load(path, device="cpu", progress=False) as model:
            model.sequence(IDS[:20]).fork().append(IDS[:3])

    for _ in range(3):
        once()
    gc.collect()
    before = _resident_bytes()
    for _ in range(20):
        once()
    gc.collect()
    assert _resident_bytes() - before < 4 << 20
