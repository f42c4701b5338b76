"""State files: what is refused, what damage costs, what pruning keeps, what can be changed."""

import errno
import itertools
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from models import model_path
from tiny import conformance_model

import jitllm
from jitllm.llm.cli import cli
from jitllm.llm.errors import ContextLengthExceeded, StateError
from jitllm.llm.state.counters import state_counters
from jitllm.llm.state_files import versions
from jitllm.llm.state_files.file import StateFile
from jitllm.llm.state_files.log import Record
from jitllm.llm.state_files.pruning import prune

_TOKENS = [1, *range(3, 260)]


@pytest.fixture(scope="module")
def stories() -> Iterator[jitllm.Model]:
    with jitllm.load(model_path("stories260K"), n_ctx=512, n_threads=1, progress=False) as model:
        yield model


@pytest.fixture
def path(stories: jitllm.Model, tmp_path: Path) -> Path:
    """Six checkpoints: 100, 130, 131 tokens; a branch of 90; 150 on it; 200 on its own."""
    path = tmp_path / "some.state"
    with stories.sequence(_TOKENS[:100]) as s:
        s.save(path, label="root")
        s.append(_TOKENS[100:130]).save(path)
        s.append(_TOKENS[130:131]).save(path, label="tip")
        s.truncate(90).append([7]).truncate(90).save(path, label="branch")
        s.append(_TOKENS[90:150]).save(path)
    with stories.sequence(_TOKENS[:200]) as s:
        s.save(path, label="own")
    return path


_LENGTHS = {1: 100, 2: 130, 3: 131, 4: 90, 5: 150, 6: 200}


def _check(model: jitllm.Model, path: Path, number: int, *, pending: bool = False) -> None:
    """Load a checkpoint and compare what follows with a fresh computation."""
    n = _LENGTHS[number]
    with model.load_sequence(path, number) as found, model.sequence(_TOKENS[:n]) as fresh:
        assert found.token_ids == _TOKENS[:n]
        assert bool(found.n_pending) == pending
        for one in (found, fresh):
            one.append([9, 8])
        assert np.array_equal(found.logits, fresh.logits)


def test_every_checkpoint_comes_back(stories: jitllm.Model, path: Path) -> None:
    for number in _LENGTHS:
        _check(stories, path, number)
    with StateFile(path) as file:
        assert [c.parent for c in file.checkpoints] == [None, 1, 2, 3, 4, None]
        assert file.verify() == {} and file.damages == []
        assert file.get("tip").id == 3 and file.get().id == 6
        with pytest.raises(StateError, match="a checkpoint 'none', the file has 1 'root', 2,"):
            file.get("none")
        with pytest.raises(StateError, match="a checkpoint 77"):
            stories.load_sequence(path, 77)


def test_saving_again_costs_what_is_new(stories: jitllm.Model, tmp_path: Path) -> None:
    path, cell = tmp_path / "one.state", 5 * 2 * 4 * 8 * 2
    with stories.sequence(_TOKENS[:200]) as s:
        first = s.save(path)
        again = s.save(path)
        more = s.append(_TOKENS[200:210]).save(path)
    fixed = 512 * 4 + 210 * 4 + 4096  # logits, tokens, the head
    assert 200 * cell < first.nbytes < 200 * cell + 10_000
    assert again.nbytes < fixed
    assert more.nbytes < 10 * cell + fixed


@pytest.mark.parametrize("number", _LENGTHS)
def test_pruned_files_hold_what_is_kept(stories: jitllm.Model, path: Path, number: int) -> None:
    keep = {number, 5}
    before = path.stat().st_size
    dropped = prune(path, keep=keep)
    assert {c.id for c in dropped} == _LENGTHS.keys() - keep
    assert path.stat().st_size < before
    for kept in keep:
        _check(stories, path, kept)
    with stories.load_sequence(path, number) as s:  # and goes on growing
        s.append([4]).save(path)
    assert len(StateFile(path).checkpoints) == len(keep) + 1


def test_pruning_to_a_budget_keeps_labels_longest(path: Path) -> None:
    sizes = []
    for max_bytes in (1 << 30, 400_000, 250_000, 1):
        prune(path, max_bytes=max_bytes)
        with StateFile(path) as file:
            sizes.append([c.id for c in file.checkpoints])
            assert file.verify() == {}
    assert sizes[0] == [1, 2, 3, 4, 5, 6]
    assert sizes[-1] == [6]
    assert all(len(a) >= len(b) for a, b in zip(sizes, sizes[1:], strict=False))
    with pytest.raises(StateError, match="expected a checkpoint to keep"):
        prune(path, keep=[99])


def _rename(record: Record) -> Record:
    """Make a record of version 1 one of version 2, which has no array "logits"."""
    head = {name: value for name, value in record.head.items() if name != "label"}
    entries = dict(record.entries)
    if "logits" in entries:
        entries["last"] = entries.pop("logits")
    return replace(record, version=2, head={**head, "name": record.head["label"]}, entries=entries)


def _restore_names(record: Record) -> Record:
    """Make a record of version 2 one of version 3, which is like version 1."""
    head = {name: value for name, value in record.head.items() if name != "name"}
    entries = dict(record.entries)
    if "last" in entries:
        entries["logits"] = entries.pop("last")
    return replace(record, version=3, head={**head, "label": record.head["name"]}, entries=entries)


def test_older_versions_are_upgraded_step_by_step(
    stories: jitllm.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "VERSION", 3)
    with StateFile(path) as file:
        assert file.checkpoints == []
        assert "expected a record of version 3 to 3, got version 1" in file.damages[0].reason
    monkeypatch.setattr(versions, "UPGRADES", {1: _rename, 2: _restore_names})
    for number in _LENGTHS:
        _check(stories, path, number)
    with stories.load_sequence(path, "tip") as s:
        s.append([4]).save(path)  # versions side by side
    with StateFile(path) as file:
        assert [r.version for r in file._log.records] == [1, 1, 1, 1, 1, 1, 3]
    prune(path, keep=[3, 5])
    monkeypatch.setattr(versions, "UPGRADES", {})
    for number in (3, 5):  # written anew as version 3
        _check(stories, path, number)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def test_damaged_cells_are_computed_again(
    stories: jitllm.Model, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFile(path) as file:
        entry = file.get(1).record.entries["cells.0.64-100"]
    _flip(path, entry.start + 5)
    with StateFile(path) as file:
        assert list(file.verify()) == [1]
    with caplog.at_level(logging.WARNING, "jitllm.state"):
        _check(stories, path, 3, pending=True)
    assert "it belongs to checkpoint 1 ('root')" in caplog.text
    assert "67 of 131 tokens must be computed again" in caplog.text
    _check(stories, path, 6)
    prune(path)  # drops what is damaged; others keep their tokens
    with StateFile(path) as file:
        assert [c.id for c in file.checkpoints] == [2, 3, 4, 5, 6]
    for number in (2, 3, 4, 5):
        _check(stories, path, number, pending=True)


def test_a_lost_head_costs_that_checkpoint(stories: jitllm.Model, path: Path) -> None:
    with StateFile(path) as file:
        _flip(path, file.get(2).record.offset + 70)
    with StateFile(path) as file:
        assert [c.id for c in file.checkpoints] == [1, 3, 4, 5, 6]
        assert "damaged record" in file.damages[0].reason
        with pytest.raises(StateError, match="a checkpoint 2, .* damaged: a damaged record at"):
            file.get(2)
    for number in (1, 6):
        _check(stories, path, number)
    for number in (3, 4, 5):  # their tokens are whole, the cells of their ancestors are lost
        _check(stories, path, number, pending=True)
    assert prune(path) == []
    for number in (1, 3, 4, 5, 6):
        _check(stories, path, number, pending=number in (3, 4, 5))


def test_other_models_are_refused(stories: jitllm.Model, path: Path, tmp_path: Path) -> None:
    before = stories.memory()["caches_used"]
    other = conformance_model("llama-dense", tmp_path / "other.gguf")
    with jitllm.load(other, n_ctx=512, n_threads=1, progress=False) as model:
        with pytest.raises(StateError, match="load that model"):
            model.load_sequence(path)
        with pytest.raises(StateError, match="the state of another model"):
            model.load_sequence(path, force=True)
        with model.sequence([1, 2]) as s, pytest.raises(StateError, match="save to another file"):
            s.save(path)
        assert model.memory()["caches_used"] == 0
    small = jitllm.load(model_path("stories260K"), n_ctx=150, n_threads=1, progress=False)
    with small, pytest.raises(ContextLengthExceeded, match="at most 150 tokens, got 200"):
        small.load_sequence(path)
    assert stories.memory()["caches_used"] == before
    _check(stories, path, 6)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ctx": 300},
        {"n_threads": 2},
        {"device": "reference"},
        {"kv_dtype": "f32"},
    ],
    ids=str,
)
def test_other_settings_take_the_state(
    stories: jitllm.Model, path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    given = {"n_ctx": 512, "n_threads": 1, "progress": False, **settings}
    with (
        caplog.at_level(logging.WARNING, "jitllm.state"),
        jitllm.load(model_path("stories260K"), **given) as model,
        model.load_sequence(path) as found,
        stories.sequence(_TOKENS[:200]) as fresh,
    ):
        assert found.n_pending == 0
        near = found.append([9]).logits
        far = fresh.append([9]).logits
        same = settings.keys() & {"n_ctx", "n_threads"}
        assert np.array_equal(near, far) if same else np.abs(near - far).max() < 0.2
    assert ("is converted to f32" in caplog.text) == ("kv_dtype" in settings)


def test_a_full_disk_keeps_what_was_there(
    stories: jitllm.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write of a save the disk is full; the file stays as it was, and the next works."""
    before, write = path.read_bytes(), os.write
    with stories.load_sequence(path) as s:
        s.append([5] * 40)
        for n_writes in range(100):
            left = [n_writes]

            def scarce(file: int, data: Any, left: list[int] = left) -> int:
                if not left[0]:
                    raise OSError(errno.ENOSPC, "no space left on device")
                left[0] -= 1
                return write(file, bytes(data)[:4096])  # in several writes

            monkeypatch.setattr(os, "write", scarce)
            try:
                s.save(path, sync=False)
            except OSError:
                assert path.read_bytes() == before
            else:
                break
        else:
            pytest.fail("the save never worked")
        monkeypatch.undo()
        assert n_writes > 8
        assert StateFile(path).get().n_tokens == 240


def test_events_are_counted_and_logged(
    stories: jitllm.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = state_counters()
    path = tmp_path / "one.state"
    with caplog.at_level(logging.INFO, "jitllm.state"), stories.sequence([1, 2, 3]) as s:
        s.save(path, label="x")
        stories.load_sequence(path).close()
        s.checkpoint()
        s.rollback()
        with pytest.raises(StateError):
            s.rollback("none")
        prune(path)
    after = state_counters()
    new = {event: n - before.get(event, 0) for event, n in after.items()}
    new = {event: n for event, n in new.items() if n}
    assert new == {"save": 1, "restore": 1, "checkpoint": 1, "rollback": 1,
                   "rollback failed": 1, "prune": 1}  # fmt: skip
    messages = [record.getMessage() for record in caplog.records]
    assert any("saved checkpoint 1 ('x') of 3 tokens" in m and "bytes" in m for m in messages)
    assert any("restored checkpoint 1 ('x') of 3 tokens" in m and " ms" in m for m in messages)


def test_writers_take_turns(stories: jitllm.Model, tmp_path: Path) -> None:
    """Threads with a sequence each, and one that prunes, on one file: nothing is lost."""
    path, n_saves = tmp_path / "busy.state", 12

    def write(first: int) -> None:
        with stories.sequence([1, first]) as s:
            for i in range(n_saves):
                s.append([first + i]).save(path, label=f"{first} {i}", sync=False)

    with stories.sequence([1]) as s:
        s.save(path)
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(write, first) for first in (10, 40, 70)]:
            for _ in range(3):
                assert prune(path) == []
            job.result()
    with StateFile(path) as file:
        assert file.verify() == {} and file.damages == []
        assert [c.id for c in file.checkpoints] == list(range(1, 2 + 3 * n_saves))
        for first in (10, 40, 70):
            for i in range(n_saves):
                expected = [1, first, *range(first, first + i + 1)]
                assert file.tokens(file.get(f"{first} {i}")).tolist() == expected


def test_a_file_that_never_stays_the_same_is_given_up(
    stories: jitllm.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, sizes = path.read_bytes(), itertools.count(1)
    monkeypatch.setattr("jitllm.llm.state_files.log.stamp", lambda _: (0, 0, next(sizes)))
    with stories.sequence([1, 2]) as s, pytest.raises(StateError, match="another writer"):
        s.save(path)
    with pytest.raises(StateError, match="another writer"):
        prune(path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_numbers_used_again_are_no_parents(stories: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "one.state"
    with stories.sequence([1, 5, 6]) as s, stories.sequence([1, 7, 8, 9]) as other:
        s.save(path)
        assert other.save(path).id == 2
        prune(path, keep=[1])
        assert s.append([4] * 70).save(path).id == 2
        found = other.append([3]).save(path)
        assert found.id == 3 and found.parent is None
        with stories.load_sequence(path, 3) as loaded:
            assert loaded.token_ids == [1, 7, 8, 9, 3]
            assert np.array_equal(loaded.append([2]).logits, other.append([2]).logits)


def test_history_is_kept_within_a_budget(stories: jitllm.Model) -> None:
    with stories.sequence(_TOKENS[:64]) as s:
        for i in range(5):
            s.checkpoint(str(i))
            s.append([5 + i] * 64)
        assert [m.label for m in s.history] == ["0", "1", "2", "3", "4"]
        page = 64 * 5 * 2 * 4 * 8 * 2
        assert s.history.nbytes == 5 * page
        assert s.history.prune(5 * page) == 0
        assert s.history.prune(3 * page) == 4  # the newest stays, whatever it holds
        assert s.history.nbytes == 5 * page
        with pytest.raises(StateError, match="expected a checkpoint '9'"):
            s.rollback("9")
    assert stories.memory()["caches_used"] == 0


def test_what_was_edited_is_no_prefix_of_others(stories: jitllm.Model, tmp_path: Path) -> None:
    path = tmp_path / "two.state"
    with stories.sequence(_TOKENS[:100]) as s:
        s.save(path, label="clean")
        s.kv[2].v[3:5] = 0
        s.save(path, label="edited")
        s.save(path, label="states", only_states=True)
        for label, is_own in (("clean", True), ("edited", False)):
            with stories.load_sequence(path, label) as found:
                assert (found.contents.cells.graph is stories.engine.graph) == is_own
        with s.fork() as twin:
            assert twin.restore(path, "states").contents.cells.graph is None
    other = jitllm.load(model_path("stories260K"), n_ctx=512, precision="exact", progress=False)
    with other, other.load_sequence(path, "clean") as found:
        assert found.contents.cells.graph is None


def test_caches_can_be_read_and_edited(stories: jitllm.Model, tmp_path: Path) -> None:
    with stories.sequence(_TOKENS[:100]) as s, s.fork() as twin:
        assert len(s.kv) == 5 and s.kv[3].k.shape == (100, 4, 8)
        before = np.asarray(s.kv[3].k)
        s.kv[3].k[70:, 1] = 0
        after = np.asarray(s.kv[3].k)
        assert not after[70:, 1].any() and np.array_equal(after[:70], before[:70])
        assert np.array_equal(np.asarray(twin.kv[3].k), before)
        assert not np.array_equal(s.logits, twin.logits)
        s.save(tmp_path / "edited.state")
        with stories.load_sequence(tmp_path / "edited.state") as found:
            assert np.array_equal(np.asarray(found.kv[3].k), np.asarray(s.kv[3].k))
        with pytest.raises(IndexError, match="expected a block with a cache"):
            s.kv[5]


def test_commands(path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(cli, ["state", "ls", str(path), "--json"])
    rows = json.loads(listed.stdout)["checkpoints"]
    assert [row["tokens"] for row in rows] == [100, 130, 131, 90, 150, 200]
    assert "on 3" in runner.invoke(cli, ["state", "ls", str(path)]).stdout
    shown = json.loads(runner.invoke(cli, ["state", "show", str(path), "tip"]).stdout)
    assert shown["id"] == 3 and shown["cells"] == 131
    assert runner.invoke(cli, ["state", "verify", str(path)]).exit_code == 0
    with StateFile(path) as file:
        _flip(path, file.get(6).record.entries["tokens"].start)
    wrong = runner.invoke(cli, ["state", "verify", str(path)])
    assert wrong.exit_code == 1 and "checkpoint 6" in wrong.stderr
    pruned = runner.invoke(cli, ["state", "prune", str(path), "--keep", "1"])
    assert pruned.exit_code == 0 and "5 checkpoints dropped" in pruned.stdout
    missing = runner.invoke(cli, ["state", "show", str(path), "7"])
    assert isinstance(missing.exception, StateError)
