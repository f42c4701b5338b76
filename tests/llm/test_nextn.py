"""Blocks that predict further tokens, run beside the engine of their model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from driver import nmse
from variants.nextn import nextn_golden, nextn_model

from jitllm.llm.errors import ClosedError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import open_model
from jitllm.llm.state.engine import Engine
from jitllm.llm.state.nextn import HiddenRows, NextnBlock

TOKENS = [int(t) for t in nextn_golden("qwen35")["tokens"]]
NO_ROWS = np.zeros(0, np.intp)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nextn_model("qwen35", tmp_path_factory.mktemp("nextn") / "model.gguf")


@pytest.fixture
def parts(path: Path) -> Iterator[tuple[Engine, NextnBlock]]:
    with GGUFFile(path) as file:
        model = open_model(file, "cpu", n_ctx=128, precision="exact", mtp=True)
    engine = Engine(model, "f32")
    yield engine, NextnBlock(engine, model.mtp[0], "f32")
    engine.close()


def hidden_rows(engine: Engine) -> np.ndarray:
    """The hidden rows of the positions before those of the tokens."""
    keep, cells = HiddenRows(engine.graph), engine.new_cells()
    for _ in engine.run(cells, TOKENS, 0, NO_ROWS, [keep]):
        pass
    cells.release()
    hidden = keep.take()
    return np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])


def test_a_block_beside_its_model(parts: tuple[Engine, NextnBlock]) -> None:
    engine, block = parts
    hidden, rows = hidden_rows(engine), np.arange(12, 28)
    logits, own = block.run(block.new_cells(), TOKENS, hidden, 0, rows)
    golden = nextn_golden("qwen35")
    assert nmse(logits, golden["logits.0"]) <= 1e-6
    assert nmse(own[-4:], golden["hidden.0"]) <= 1e-6


def test_pieces_change_no_bit(
    parts: tuple[Engine, NextnBlock], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, block = parts
    hidden, rows = hidden_rows(engine), np.array([3, 27])
    whole = block.run(block.new_cells(), TOKENS, hidden, 0, rows)
    monkeypatch.setattr(engine, "max_tokens", 5)
    cut = block.run(block.new_cells(), TOKENS, hidden, 0, rows)
    cells = block.new_cells()
    first = block.run(cells, TOKENS[:9], hidden[:9], 0, NO_ROWS)[1]
    rest = block.run(cells, TOKENS[9:], hidden[9:], 9, np.array([18]))
    for got, expected in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.concatenate([first, rest[1]]), whole[1])
    np.testing.assert_array_equal(rest[0], whole[0][1:])


def test_a_draft_can_be_taken_back(parts: tuple[Engine, NextnBlock]) -> None:
    engine, block = parts
    hidden, cells, last = hidden_rows(engine), block.new_cells(), np.array([0])
    _, own = block.run(cells, TOKENS[:20], hidden[:20], 0, NO_ROWS)
    for step in range(3):  # the block reads its own rows
        _, own = block.run(cells, [step], own[-1:], 20 + step, last)
    assert cells.truncate(20) == 20
    again, _ = block.run(cells, TOKENS[20:21], hidden[20:21], 20, last)
    whole, _ = block.run(block.new_cells(), TOKENS[:21], hidden[:21], 0, np.array([20]))
    np.testing.assert_array_equal(again, whole)


def test_closing_a_block_frees_what_it_took(parts: tuple[Engine, NextnBlock]) -> None:
    engine, block = parts
    cells = block.new_cells()
    block.run(cells, TOKENS, hidden_rows(engine), 0, NO_ROWS)
    tapped = engine.backend.memory()
    block.close()
    block.close()
    without = engine.backend.memory()
    assert without["weights"] == tapped["weights"]
    assert without["caches"] < tapped["caches"] and without["buffers"] < tapped["buffers"]
    with pytest.raises(ClosedError, match="the block was closed"):
        block.run(cells, TOKENS, np.zeros((28, 256), np.float32), 0, NO_ROWS)
    for _ in range(3):
        NextnBlock(engine, block.graph).close()
    assert engine.backend.memory() == without
    assert len(engine.backend._pools) == len(engine.pools) + 1  # type: ignore[attr-defined]


def test_a_closed_model_has_closed_its_blocks(parts: tuple[Engine, NextnBlock]) -> None:
    engine, block = parts
    engine.close()
    block.close()
    with pytest.raises(ClosedError, match="the model was closed"):
        block.run(block.new_cells(), TOKENS, np.zeros((28, 256), np.float32), 0, NO_ROWS)
