"""Parts of sequences: written, read as arrays, and put back where the rest still is."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny import conformance_model
from variants.written import written_model

import jitllm
from jitllm.llm.errors import StateError
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.pruning import prune

N_TOKENS = 420
_TINY = (
    "llama-dense.gqa", "gemma3-dense.gqa", "mamba2-dense", "falcon-h1-dense.gqa",
    "deepseek2-moe.routed", "qwen3next-moe.routed",
)  # fmt: skip


@pytest.fixture(scope="module", params=_TINY)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[jitllm.Model]:
    path = conformance_model(request.param, tmp_path_factory.mktemp("state") / "model.gguf")
    with jitllm.load(path, n_ctx=1024, n_threads=1, progress=False) as model:
        yield model


@pytest.fixture
def tokens(model: jitllm.Model) -> list[int]:
    return [int(t) for t in np.random.default_rng(3).integers(0, model.n_vocab, N_TOKENS)]


def test_any_cells_can_be_read(model: jitllm.Model, tokens: list[int], tmp_path: Path) -> None:
    """Those of branches too, which lie in several records."""
    path = tmp_path / "branches.state"
    with model.sequence(tokens[:100]) as s, StateFile(path) as empty:
        assert empty.checkpoints == []
        for stop, label in ((170, "a"), (171, "b"), (400, "c")):
            s.append(tokens[len(s) : stop]).save(path, label=label)
        s.truncate(150).append(tokens[:50]).save(path, label="d")
        with StateFile(path) as file:
            found = file.get("d")
            assert set(found.blocks) == {block for block in range(9) if _has(s, block)}
            for block in found.blocks:
                layer = s.kv[block]
                whole = layer.read()
                for start, stop in ((0, 200), (199, 200), (3, 3), (60, 70), (64, 192), (149, 151)):
                    if start < layer.first:  # earlier checkpoints of the file may have it
                        continue
                    cells = slice(start - layer.first, stop - layer.first)
                    for part, expected in zip(
                        file.read_cells(found, block, start, stop), whole, strict=True
                    ):
                        assert np.array_equal(part, expected[cells])
            with pytest.raises(StateError, match="expected a block with a cache"):
                file.read_cells(found, 99)
            if found.blocks:
                with pytest.raises(StateError, match="expected cells from 0 to 200, in order"):
                    file.read_cells(found, min(found.blocks), 150, 201)


def test_cells_out_of_the_window_are_not_there(
    model: jitllm.Model, tokens: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "one.state"
    with model.sequence(tokens) as s:
        s.append(tokens[:300]).save(path)  # two runs: the first lets pages go
        with StateFile(path) as file:
            for block in file.get().blocks:
                first = s.kv[block].first
                k, v = file.read_cells(file.get(), block, first)
                assert len(k) == len(v) == len(s) - first
                if first:
                    with pytest.raises(StateError, match="fell out of a sliding window"):
                        file.read_cells(file.get(), block, first - 1)
        windows = any(pool.window for pool in s.contents.cells.pools)
        assert any(s.contents.cells.firsts) == windows


def _has(s: jitllm.Sequence, block: int) -> bool:
    try:
        s.kv[block]
    except IndexError:
        return False
    return True


def test_states_can_be_read(model: jitllm.Model, tokens: list[int], tmp_path: Path) -> None:
    path = tmp_path / "one.state"
    with model.sequence(tokens[:300]) as s:
        s.append(tokens[300:301]).save(path)
        sizes = s.contents.cells.state_sizes
        with StateFile(path) as file:
            found = file.get()
            if not sizes:
                with pytest.raises(StateError, match="expected states behind one of"):
                    file.read_states(found)
                return
            assert [len(state) for state in file.read_states(found)] == sizes
            for n in found.states:
                expected = s.contents.cells.read_states(n)
                assert np.array_equal(np.concatenate(file.read_states(found, n)), expected)


def test_states_are_put_back(model: jitllm.Model, tokens: list[int], tmp_path: Path) -> None:
    path, logits = tmp_path / "states.state", model.forward(tokens)
    with model.sequence() as s:
        for stop in (50, 130, 190):
            s.append(tokens[len(s) : stop]).save(path, label=str(stop), only_states=True)
        s.append(tokens[190:400])
        for label in ("190", "50", "130"):
            with s.fork() as twin:
                twin.restore(path, label)
                n = int(label)
                assert twin.token_ids == tokens[:n] and not twin.n_pending
                rows = np.concatenate(list(twin.extend(tokens[n:], np.arange(N_TOKENS - n))))
                assert np.array_equal(rows, logits[n:])
        assert np.array_equal(s.logits, logits[399])
    assert model.memory()["caches_used"] == 0


def test_pruning_keeps_states_that_the_new_parent_lacks(
    model: jitllm.Model, tokens: list[int], tmp_path: Path
) -> None:
    """A parent may have the cells of a token, but states only behind later ones."""
    path = tmp_path / "states.state"
    with model.sequence(tokens[:2]) as s, model.sequence(tokens[:1]) as shorter:
        s.save(path, label="two")
        shorter.save(path, label="one")
        s.restore(path, "one", only_states=True)  # goes back to "two", with other states
        s.save(path, label="kept")
        s.save(path, label="dropped")
        with StateFile(path) as file:
            keep = [c.id for c in file.checkpoints if c.label != "dropped"]
        prune(path, keep=keep)
        with model.load_sequence(path, "kept") as found:
            assert found.n_pending == 0
            assert np.array_equal(found.append([3]).logits, shorter.append([3]).logits)


def test_pruning_keeps_no_cells_of_texts_before(
    model: jitllm.Model, tokens: list[int], tmp_path: Path
) -> None:
    """A chunk of an ancestor may go on with cells of tokens that were removed since."""
    path = tmp_path / "removed.state"
    with model.sequence(tokens[:5]) as s:
        s.save(path)
        s.remove(1, 2, recompute=True)
        _ = s.logits
        kept = s.save(path, only_states=True).id
        prune(path, keep=[kept])
        with model.sequence() as twin, model.sequence([tokens[0], *tokens[2:5], 3]) as expected:
            twin.restore(path, kept, only_states=False).append([3])
            assert twin.token_ids == expected.token_ids
            assert np.array_equal(twin.logits, expected.logits)


def test_states_alone_are_small_and_no_parent(
    model: jitllm.Model, tokens: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "one.state"
    with model.sequence(tokens[:200]) as s:
        small = s.save(path, only_states=True)
        whole = s.save(path)
        more = s.append(tokens[200:220]).save(path)
        pools = s.contents.cells.pools
        full = [i for i, pool in enumerate(pools) if not pool.window]
    assert whole.parent is None and more.parent == whole.id
    names = list(small.record.entries)
    assert not [name for name in names if name.startswith(tuple(f"cells.{i}." for i in full))]
    assert small.nbytes < whole.nbytes if full else small.nbytes <= whole.nbytes
    logits = model.forward(tokens[:201])
    with caplog.at_level(logging.WARNING), model.load_sequence(path, small.id) as found:
        assert bool(found.n_pending) == bool(full)
        assert ("holds no cells of full attention" in caplog.text) == bool(full)
        assert np.array_equal(found.append(tokens[200:201]).logits, logits[200])


def test_what_does_not_fit_is_refused(
    model: jitllm.Model, tokens: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "one.state"
    with model.sequence(tokens[:150]) as s:
        whole = s.save(path)
        small = s.save(path, only_states=True)
    content = bytearray(path.read_bytes())
    with model.sequence(tokens[:100]) as short, model.sequence([1, *tokens[:199]]) as other:
        for sequence in (short, other):
            before = sequence.token_ids, sequence.logits
            for number in (whole.id, small.id):
                with pytest.raises(StateError, match="expected a sequence that begins with its"):
                    sequence.restore(path, number, only_states=True)
            assert sequence.token_ids == before[0]
            assert np.array_equal(sequence.logits, before[1])
        entries = {
            name: entry
            for name, entry in small.record.entries.items()
            if name.startswith(("cells", "states.150"))
        }
        with model.sequence(tokens[:180]) as s:
            used, logits = model.memory()["caches_used"], s.logits
            for entry in entries.values():
                content[entry.start] ^= 1
                path.write_bytes(content)
                with pytest.raises(StateError, match="some cannot be read"):
                    s.restore(path, small.id)
                content[entry.start] ^= 1
            assert model.memory()["caches_used"] == used
            assert np.array_equal(s.logits, logits)
            path.write_bytes(content)
            assert s.restore(path, small.id).token_ids == tokens[:150]
    assert model.memory()["caches_used"] == 0


def test_cells_are_drawn(model: jitllm.Model, tokens: list[int]) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    with model.sequence(tokens[:130]) as s:
        s.checkpoint("start")
        s.append(tokens[130:]).append(tokens[:200])
        axes = s.show_cells()
        cells = s.contents.cells
        names = [label.get_text() for label in axes.get_yticklabels()]
        n_rows = len(cells.pools) + bool(cells.state_sizes)
        assert len(names) == n_rows and ("states" in names) == bool(cells.state_sizes)
        held = [n for holders in cells.page_holders() for n in holders]
        assert len(axes.patches) == len(held)
        assert held.count(0) == sum(first // 64 for first in cells.firsts)
        assert (2 in held) == bool(cells.pools)
        assert s.show_cells(axes) is axes
        s.push(1)
        with s.fork() as twin:
            pyplot.close(twin.show_cells().figure)
        pyplot.close(axes.figure)


def test_caches_of_a_decoder_behind_an_encoder(tmp_path: Path) -> None:
    """Those of the encoder's text come first in the graph, and are no sequence's own."""
    path = written_model("t5", tmp_path / "model.gguf")
    with jitllm.load(path, n_threads=1, progress=False) as model, model.sequence([3, 4, 5]) as s:
        s.append([7, 8, 9])
        shapes = [layer.k.shape[0] for layer in s.kv]
        assert shapes == [len(s)] * len(s.kv) and len(shapes) > 1
        s.save(tmp_path / "one.state")
        with StateFile(tmp_path / "one.state") as file:
            for block, (_, layer) in file.get().blocks.items():
                k, v = file.read_cells(file.get(), block)
                assert np.array_equal(k, s.kv[block].read()[0]) and len(v) == len(s)
                assert layer < len(s.kv)
        with model.load_sequence(tmp_path / "one.state") as found:
            assert np.array_equal(found.append([2]).logits, s.append([2]).logits)
            assert found.source_ids == [3, 4, 5]
            found.contents.source = [10**6]
            found.save(tmp_path / "wrong.state")
        with pytest.raises(StateError, match=f"expected tokens from 0 to {model.n_vocab - 1}"):
            model.load_sequence(tmp_path / "wrong.state")
        s.close()
        assert model.memory()["caches_used"] == 0
