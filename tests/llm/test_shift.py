"""Tokens taken out of the middle: keys turned to new positions, refusals that change nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import model_path
from numpy.typing import NDArray
from tiny import conformance_model
from variants import shifted
from variants.written import written_model

import jitllm
from jitllm.backends import open_backend
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec
from jitllm.llm.state import shift
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.pages import PagePool
from jitllm.llm.state.sequence import Sequence
from jitllm.llm.state.shift import Turn, turned

Floats = NDArray[np.float32]

_DATA = Path(__file__).parents[1] / "data" / "shift.npz"
_N = 230


def _tokens(model: jitllm.Model, n: int = _N) -> list[int]:
    return [int(t) for t in np.random.default_rng(3).integers(0, model.n_vocab, n)]


def _nmse(got: Floats, expected: Floats) -> float:
    return float(((got - expected) ** 2).sum() / (expected**2).sum())


def _roped(x: Floats, positions: NDArray[np.int64], turn: Turn) -> Floats:
    """Rope by complex numbers, float64: columns of every head from `turn.start` on."""
    half, y = len(turn.frequencies), x.astype(np.float64)
    first = np.arange(half) * (2 if turn.kind == "norm" else 1) + turn.start
    second = first + (1 if turn.kind == "norm" else half)
    angles = positions[:, None, None] * turn.frequencies.astype(np.float64)
    z = (y[..., first] + 1j * y[..., second]) * np.exp(1j * angles)
    y[..., first], y[..., second] = z.real, z.imag
    return y.astype(np.float32)


@pytest.mark.parametrize("kind", ["norm", "neox"])
@pytest.mark.parametrize("start", [0, 6])
def test_keys_are_turned_to_other_positions(kind: str, start: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3, 16), np.float32)
    turn = Turn(start, kind, (10.0 ** -np.arange(5)).astype(np.float32))
    positions = np.arange(200, 250)
    got = turned(_roped(x, positions, turn).reshape(50, -1).copy(), (turn,), 3, -77)
    expected = _roped(x, positions - 77, turn)
    np.testing.assert_allclose(got.reshape(50, 3, 16), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", shifted.MODELS)
def test_the_logits_behind_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    path = shifted.write_model(name, tmp_path / "model.gguf")
    options: dict[str, Any] = {"kv_dtype": "f32", "precision": "exact", "n_threads": 1}
    with (
        np.load(_DATA) as golden,
        jitllm.load(path, n_ctx=shifted.N_CTX, progress=False, **options) as model,
        model.sequence(shifted.tokens(model.n_vocab)) as sequence,
        sequence.fork() as exact,
    ):
        rows, after = [], shifted.after(model.n_vocab)
        for start, stop in shifted.REMOVED:
            sequence.remove(start, stop)
            assert not sequence.n_pending
            rows += [sequence.append([token]).logits for token in after]
        errors = [_nmse(a, b) for a, b in zip(rows, golden[name], strict=True)]
        assert max(errors) < 1e-7
        exact.remove(*shifted.REMOVED[0], recompute=True).append(after[:1])
        assert _nmse(exact.logits, golden[name][0]) > 100 * max(errors)  # else this shows nothing


_FIRST_BLOCKS = (
    "llama-yarn", "smallthinker-five-layers", "deepseek2-in-full", "phi3-long-fused",
)  # fmt: skip


@pytest.mark.parametrize("name", _FIRST_BLOCKS)
def test_the_first_block_keeps_what_the_tokens_alone_give(name: str, tmp_path: Path) -> None:
    """Its keys depend on token and position only, so removing must give what computing gives."""
    path = shifted.write_model(name, tmp_path / "model.gguf")
    with jitllm.load(path, n_ctx=512, kv_dtype="f32", n_threads=1, progress=False) as model:
        ids = _tokens(model)
        with model.sequence(ids) as sequence, model.sequence(ids[:10] + ids[75:]) as fresh:
            sequence.remove(10, 75)
            for part in ("k", "v"):
                got, expected = (
                    np.asarray(getattr(s.kv[0], part)) for s in (sequence, fresh)
                )  # fmt: skip
                assert got.shape == expected.shape and np.abs(expected).max() > 0.1
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


class _Text:
    """Cells that hold the number of each token as value, and its position as key."""

    def __init__(self, pool: PagePool, cells: Cells, ids: list[int]) -> None:
        self.pool, self.cells, self.ids = pool, cells, ids

    def append(self, ids: list[int]) -> None:
        start, self.ids = len(self.ids), self.ids + ids
        self.cells.prepare(start, len(self.ids))
        for position in range(start, len(self.ids)):
            page = self.cells.page(0, position)
            both = self.pool.pool.read(0, page)
            for rows, value in zip(both, (position, self.ids[position]), strict=True):
                rows[position % PAGE_TOKENS] = value
            self.pool.pool.write(0, page, *both)
        self.cells.forget(len(self.ids))

    def remove(self, start: int, stop: int) -> bool:
        if not self.cells.can_remove(start, stop, len(self.ids)):
            return False
        self.cells.begin_removal(start, stop, len(self.ids))
        self.check()
        self.cells.remove(
            start, stop, len(self.ids), lambda cache, layer, keys: keys - stop + start
        )
        self.ids = self.ids[:start] + self.ids[stop:]
        return True

    def check(self) -> None:
        for position in range(self.cells.firsts[0], len(self.ids)):
            keys, values = self.pool.pool.read(0, self.cells.page(0, position))
            assert (keys[position % PAGE_TOKENS] == position).all()
            assert (values[position % PAGE_TOKENS] == self.ids[position]).all()
        n_seen = min(self.pool.window or len(self.ids), len(self.ids))
        assert self.cells.firsts[0] <= len(self.ids) - n_seen


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0, 1, 64, 100]))
def test_cells_are_what_the_list_of_tokens_says(data: st.DataObject, window: int) -> None:
    spec = CacheSpec(window, ((1, 2, 1),))
    pool = PagePool(open_backend("reference").new_pool(spec, 200, "f32"))
    texts, value = [_Text(pool, Cells([pool]), [])], 0
    for _ in range(data.draw(st.integers(2, 8))):
        text = data.draw(st.sampled_from(texts))
        action = data.draw(st.sampled_from(["append", "fork", "cut", "remove", "remove"]))
        places = sorted(data.draw(st.integers(0, len(text.ids))) for _ in range(2))
        if action == "fork" and len(texts) < 3:
            texts.append(_Text(pool, text.cells.fork(), list(text.ids)))
        elif action == "cut":
            text.ids = text.ids[: text.cells.truncate(places[0])]
        elif action == "remove" and places[0] < places[1] < len(text.ids):
            assert text.remove(places[0], places[1]) or window
        else:
            n_new = data.draw(st.integers(1, 200))
            text.append(list(range(value, value + n_new)))
            value += n_new
        for each in texts:
            each.check()
    for each in texts:
        each.cells.release()
    assert not pool.used_pages


def test_windows_that_lost_cells_can_move_where_all_that_is_seen_is_behind() -> None:
    pool = PagePool(open_backend("reference").new_pool(CacheSpec(100, ((1, 1, 1),)), 40, "f32"))
    text = _Text(pool, Cells([pool]), [])
    text.append(list(range(1000)))
    assert text.cells.firsts[0] > 500
    assert not text.cells.can_remove(700, 990, 1000)  # cells that are gone would be seen
    assert text.remove(10, 480)
    text.check()
    assert len(text.ids) == 530
    text.cells.release()
    assert not pool.used_pages


_REFUSED = {
    "mamba2-dense": "recurrent states hold all",
    "jamba-dense": "recurrent states hold all",
    "gpt2-dense": "learned embeddings of positions",
    "hunyuan-moe-moe.gqa": "changes keys by position in another way",
    "deepseek4-moe": "blk.0.*(rope_behind|sparse_attention|compress)",
    "gemma3-dense.gqa": "a sliding window has dropped cells",
}


def _everything(sequence: Sequence) -> list[Any]:
    """All that is remembered: cells, states, tokens, logits."""
    now = sequence.contents
    cells = [
        np.asarray(now.cells.read(cache, start, min(start + PAGE_TOKENS, now.n_done)))
        for cache, first in enumerate(now.cells.firsts)
        for start in range(first, now.n_done, PAGE_TOKENS)
    ]
    states = [now.cells.read_states(n) for n in now.cells.state_lengths]
    return [*cells, *states, np.array(now.ids), now.n_done, sequence.logits]


@pytest.mark.parametrize("name", _REFUSED)
def test_what_cannot_move_is_refused_and_nothing_changes(name: str, tmp_path: Path) -> None:
    path = conformance_model(name, tmp_path / "model.gguf")
    is_long = "gemma3" in name
    n_ctx, places = (1024, (500, 790)) if is_long else (256, (180, 200))
    with jitllm.load(path, n_ctx=n_ctx, n_threads=1, progress=False) as model:
        ids = _tokens(model, 800 if is_long else _N)
        with model.sequence(ids) as sequence:
            before, held = _everything(sequence), model.memory()["caches_used"]
            with pytest.raises(jitllm.StateError, match=f"{_REFUSED[name]}.*recompute=True"):
                sequence.remove(*places)
            for a, b in zip(_everything(sequence), before, strict=True):
                np.testing.assert_array_equal(a, b)
            assert model.memory()["caches_used"] == held
            sequence.remove(*places, recompute=True)
            assert sequence.n_pending >= len(ids) - places[1]
            kept = ids[: places[0]] + ids[places[1] :]
            assert sequence.token_ids == kept
            np.testing.assert_array_equal(sequence.logits, model.forward(kept, rows=-1)[0])
        assert model.memory()["caches_used"] == 0


@pytest.fixture(scope="module")
def small() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), n_threads=1, progress=False) as model:
        yield model


def test_forks_do_not_see_a_removal(small: jitllm.Model) -> None:
    ids = _tokens(small)
    with small.sequence(ids) as sequence, sequence.fork() as twin:
        before = _everything(twin)
        sequence.remove(5, 20)
        assert sequence.token_ids == ids[:5] + ids[20:]
        for a, b in zip(_everything(twin), before, strict=True):
            np.testing.assert_array_equal(a, b)
        twin.remove(5, 20)
        np.testing.assert_array_equal(sequence.append([7]).logits, twin.append([7]).logits)
    assert small.memory()["caches_used"] == 0


def test_the_end_and_tokens_without_cells_are_cut(small: jitllm.Model) -> None:
    ids = _tokens(small)
    with small.sequence(ids) as sequence:
        expected = small.forward(ids[:-9], rows=-1)[0]
        assert sequence.remove(-9, len(ids)).token_ids == ids[:-9]
        np.testing.assert_array_equal(sequence.logits, expected)
        for token in (1, 2, 3):
            sequence.push(token)
        sequence.remove(len(ids) - 8, len(ids) - 7)
        assert sequence.token_ids == [*ids[:-9], 1, 3]
        np.testing.assert_array_equal(sequence.logits, small.forward([*ids[:-9], 1, 3], rows=-1)[0])
        before = sequence.logits
        np.testing.assert_array_equal(sequence.remove(3, 3).logits, before)
        for places in ((5, 4), (0, 1000), (-1000, 4)):
            with pytest.raises(ValueError, match="expected places from 0 to"):
                sequence.remove(*places)


def test_saved_and_forgotten_logits(small: jitllm.Model, tmp_path: Path) -> None:
    """Logits behind the removed tokens are not taken for others; files keep the moved cells."""
    ids = _tokens(small, 100)
    with small.sequence(ids) as sequence:
        sequence.save(tmp_path / "a.state", sync=False)
        sequence.remove(30, 40)
        after = sequence.append(ids[:10]).logits
        sequence.save(tmp_path / "a.state", sync=False)
        with small.load_sequence(tmp_path / "a.state") as loaded:
            assert loaded.token_ids == sequence.token_ids
            np.testing.assert_array_equal(loaded.logits, after)
            np.testing.assert_array_equal(loaded.append([4]).logits, sequence.append([4]).logits)


def test_an_interrupt_in_the_middle_costs_time_only(
    small: jitllm.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, calls = _tokens(small), []

    def interrupt(keys: Floats, *rest: Any) -> Floats:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return turned(keys, *rest)

    with small.sequence(ids) as sequence:
        monkeypatch.setattr(shift, "turned", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sequence.remove(20, 90)
        assert (sequence.token_ids, sequence.n_pending) == (ids, len(ids) - 20)
        np.testing.assert_array_equal(sequence.logits, small.forward(ids, rows=-1)[0])


def _cut(sequence: Sequence) -> None:
    sequence.truncate(220)


def _removed(sequence: Sequence) -> None:
    sequence.remove(220, 240, recompute=True)


@pytest.mark.parametrize("back", [_cut, _removed])
def test_going_back_starts_at_the_nearest_checkpoint(
    back: Callable[[Sequence], None], tmp_path: Path
) -> None:
    path = conformance_model("mamba2-dense", tmp_path / "model.gguf")
    with jitllm.load(path, n_ctx=512, n_threads=1, progress=False) as model:
        ids = _tokens(model, 300)
        with model.sequence() as sequence:
            for i, token in enumerate(ids):  # short runs leave states far apart
                sequence.append([token])
                if i + 1 in (100, 207, 230):
                    sequence.checkpoint()
            back(sequence)
            assert sequence.n_pending == len(sequence) - 207
            logits = model.forward(sequence.token_ids, rows=-1)[0]
            np.testing.assert_array_equal(sequence.logits, logits)


@pytest.mark.parametrize(
    ("kv_dtype", "most"), [("f16", 1e-5), ("bf16", 1e-3), ("q8_0", 1e-3), ("q8_0/q4_0", 0.1)]
)
def test_other_types_of_caches(kv_dtype: str, most: float, tmp_path: Path) -> None:
    name = "llama-frequency-factors"
    path = shifted.write_model(name, tmp_path / "model.gguf")
    options: dict[str, Any] = {"precision": "exact", "n_threads": 1, "n_ctx": shifted.N_CTX}
    with (
        np.load(_DATA) as golden,
        jitllm.load(path, kv_dtype=kv_dtype, progress=False, **options) as model,
        model.sequence(shifted.tokens(model.n_vocab)) as sequence,
    ):
        start, stop = shifted.REMOVED[0]
        before = sequence.contents.cells.read(0, 0, start)
        sequence.remove(start, stop)
        np.testing.assert_array_equal(sequence.contents.cells.read(0, 0, start), before)
        logits = sequence.append(shifted.after(model.n_vocab)[:1]).logits
        error = _nmse(logits, golden[name][0])
        assert error < most, error


def test_a_decoder_forgets_tokens_of_its_own(tmp_path: Path) -> None:
    """What the encoder read stays; the first block's cells depend on the tokens alone."""
    path = written_model("t5.gated", tmp_path / "t5.gguf")
    with jitllm.load(path, n_threads=1, progress=False) as model:
        source, ids = [5, 6, 7, 8], _tokens(model, 150)
        with model.sequence(source).append(ids) as sequence, model.sequence(source) as fresh:
            sequence.remove(3, 90)
            fresh.append(sequence.token_ids[1:])
            assert sequence.source_ids == source and not sequence.n_pending
            for part in ("k", "v"):
                got, expected = (np.asarray(getattr(s.kv[0], part)) for s in (sequence, fresh))
                np.testing.assert_array_equal(got, expected)
            error = _nmse(sequence.append([3]).logits, fresh.append([3]).logits)
            assert 0 < error < 1
