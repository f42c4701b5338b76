"""Pages: counted, copied when written to, dropped behind a window; checked against a plain list."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jitllm.backends import open_backend
from jitllm.backends._array_pool import ArrayPool
from jitllm.backends.base import PAGE_TOKENS
from jitllm.backends.ir import CacheSpec
from jitllm.llm.errors import BackendError
from jitllm.llm.state.cells import Cells
from jitllm.llm.state.pages import (
    SLACK_PAGES,
    PagePool,
    memory_bytes,
    pages_of,
    pool_pages,
)

_N_CTX = 4096


def _pool(n_pages: int = 300, window: int = 0) -> PagePool:
    spec = CacheSpec(window, ((1, 1, 1),))
    return PagePool(open_backend("reference").new_pool(spec, n_pages, "f32"))


class _Text:
    """A sequence that keeps its positions' values in cells and in a list."""

    def __init__(
        self, pool: PagePool, values: Sequence[int] = (), cells: Cells | None = None
    ) -> None:
        self.pool, self.values = pool, list(values)
        self.cells = cells or Cells([pool])

    def append(self, values: list[int]) -> None:
        start = len(self.values)
        self.cells.prepare(start, start + len(values))
        for i, value in enumerate(values, start):
            self._page(i)[i % PAGE_TOKENS] = value
        self.values += values
        self.cells.forget(len(self.values))

    def seen(self) -> list[int]:
        """Values that a query at the last position sees."""
        window = self.pool.window
        first = max(0, len(self.values) - window) if window else 0
        return [int(self._page(i)[i % PAGE_TOKENS]) for i in range(first, len(self.values))]

    def expected(self) -> list[int]:
        return self.values[-self.pool.window :] if self.pool.window else self.values

    def _page(self, position: int) -> NDArray[np.float32]:
        page = int(self.cells.tables[0][position // PAGE_TOKENS])
        assert isinstance(self.pool.pool, ArrayPool)
        found: NDArray[np.float32] = self.pool.pool.layers[0][page].view(np.float32)
        return found


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([0, 1, 64, 100]))
def test_forks_never_see_each_other(data: st.DataObject, window: int) -> None:
    pool = _pool(window=window)
    texts, value = [_Text(pool)], 0
    for _ in range(data.draw(st.integers(1, 12))):
        text = data.draw(st.sampled_from(texts))
        action = data.draw(st.sampled_from(["append", "append", "fork", "truncate"]))
        if action == "fork" and len(texts) < 4:
            texts.append(_Text(pool, text.values, text.cells.fork()))
        elif action == "truncate":
            n_tokens = data.draw(st.integers(0, len(text.values)))
            kept = text.cells.truncate(n_tokens)
            assert kept == n_tokens or (window and not kept)
            text.values = text.values[:kept]
        else:
            n_new = data.draw(st.integers(1, 200))
            text.append(list(range(value, value + n_new)))
            value += n_new
        for each in texts:
            assert each.seen() == each.expected()
    for each in texts:
        each.cells.release()
    assert pool.used_pages == 0


def test_fork_copies_only_the_page_that_is_written() -> None:
    pool = _pool()
    text = _Text(pool)
    text.append(list(range(200)))
    assert pool.used_pages == pages_of(200) == 4
    twin = _Text(pool, text.values, text.cells.fork())
    assert pool.used_pages == 4
    twin.append([7])
    assert pool.used_pages == 5
    assert text.cells.nbytes == twin.cells.nbytes == 4 * pool.pool.page_bytes


def test_window_bounds_the_pages() -> None:
    pool = _pool(window=100)
    text = _Text(pool)
    for start in range(0, _N_CTX, 50):
        text.append(list(range(start, min(start + 50, _N_CTX))))
        assert text.seen() == text.expected()
        assert pool.used_pages <= pages_of(100) + SLACK_PAGES + 2
    assert text.cells.truncate(len(text.values) - 64)
    first = (_N_CTX - 100) // PAGE_TOKENS - SLACK_PAGES
    twin = text.cells.fork()
    assert twin.truncate(first * PAGE_TOKENS + 99)
    twin.release()
    assert not text.cells.truncate(first * PAGE_TOKENS + 98)
    assert pool.used_pages == 0


def test_truncate_frees_pages() -> None:
    pool = _pool()
    text = _Text(pool)
    text.append(list(range(200)))
    assert text.cells.truncate(64)
    assert pool.used_pages == 1


def test_exhaustion_is_an_error_that_can_be_recovered_from() -> None:
    pool = _pool(n_pages=3)
    first, second = _Text(pool), _Text(pool)
    first.append(list(range(100)))
    with pytest.raises(BackendError, match="expected a free page in a cache of 3 pages"):
        second.append(list(range(100)))
    first.cells.release()
    second.append(list(range(100)))
    assert second.seen() == second.expected()


def test_pool_pages_hold_many_sequences_and_fit_into_memory() -> None:
    small = CacheSpec(0, ((1, 8, 8),))
    assert pool_pages([small], 32768, 512, "f16") >= 64 * 32768 // PAGE_TOKENS
    assert pool_pages([small], 64, 64, "f16") >= 4096
    large = CacheSpec(0, ((100, 10**3, 10**3),))
    size = pool_pages([large], 10**6, 512, "f32") * 100 * 2 * 10**3 * 4 * PAGE_TOKENS
    assert 0.1 * memory_bytes() < size <= memory_bytes() / 2


def test_a_container_may_have_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory_bytes()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("jitllm.llm.state.pages._CONTAINER_LIMIT", limit)
    assert memory_bytes() >= machine
    limit.write_text("max\n")
    assert memory_bytes() >= machine
    limit.write_text("1048576\n")
    assert memory_bytes() == 1 << 20


def test_tables_are_as_long_as_their_sequence() -> None:
    cells = Cells([_pool()])
    assert len(cells.tables[0]) < 16
    cells.prepare(0, 100 * PAGE_TOKENS)
    assert 100 <= len(cells.tables[0]) <= 200
    assert cells.tables[0][:100].tolist() == list(range(100))
    assert len(cells.fork().tables[0]) == len(cells.tables[0])
