"""Attention on the simulated GPU: paged caches whose other cells are NaN, and what is expected."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_launch import launch
from gpu_rows import Floats, RunBlock, check, empty_rows, rows_of

from jitllm.kernels import cache_types, reference
from jitllm.kernels.cache_types import NAMES, PAGE_TOKENS

Array = npt.NDArray[Any]
Segments = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Form:
    """An attention: its sizes and what its keys and scores are.

    `cross` is the cells that every segment sees, 0 for no such attention. Values are numbers near
    `magnitude`; those beyond `largest` are expected to count as that.
    """

    heads: int = 2
    group: int = 2
    dk: int = 64
    dv: int = 64
    kv: str = "f16"
    causal: bool = True
    chunked: bool = False
    window: int = 0
    cap: float = 0.0
    scale: float = 0.2
    cross: int = 0
    sinks: Floats | None = None
    slopes: Floats | None = None
    table: Floats | None = None
    alone: bool = False
    magnitude: float = 1.0
    largest: float = float("inf")

    @property
    def n_heads(self) -> int:
        """Heads of queries."""
        return self.heads * self.group

    def constants(self) -> tuple[int, ...]:
        """Those of `attention`."""
        keys, values = cache_types.pair(self.kv)
        return (
            NAMES.index(keys), NAMES.index(values), self.dk, self.dv, int(self.causal),
            int(self.chunked), int(self.cross > 0), int(self.alone), int(self.sinks is not None),
            int(self.slopes is not None), 0 if self.table is None else self.table.shape[1],
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """Those of the twin."""
        own = dict(causal=self.causal, chunked=self.chunked, window=self.window)
        if self.cross:
            own = dict(causal=False)
        return dict(
            own, n_heads=self.n_heads, n_kv_heads=self.heads, scale=self.scale, soft_cap=self.cap,
            sinks=self.sinks, slopes=self.slopes, table=self.table,
        )  # fmt: skip

    def first_seen(self, position: int) -> int:
        """The first cell that any query from `position` on sees."""
        if not self.window or self.cross:
            return 0
        if self.chunked:
            return position - position % self.window
        return max(0, position - (self.window - 1 if self.causal else self.window // 2))


@dataclass
class Case:
    """A run's queries, its pages, and what must come out."""

    form: Form
    run: "Run"
    q: Floats
    pages: Array
    want: Floats
    rows: tuple[Floats, Floats] | None = None  # keys and values of the run's rows

    def arguments(self, q: Array, y: Array, ldy: int) -> list[Any]:
        """Return those of `attention`."""
        form = self.form
        keys, values = self.rows or (self.pages, None)
        kv = cache_types.rows_of(form.kv, (form.heads, form.dk, form.dv))
        sizes = [PAGE_TOKENS * cache_types.row_bytes(x.kind, x.width) for x in kv]
        terms = form.slopes if form.table is None else form.table
        strides = [x.shape[1] for x in self.rows] if self.rows else [0, 0]
        return [
            self.run.head, q, y, keys, values, form.sinks, terms, q.shape[1], ldy, form.group,
            sum(sizes), sizes[0], form.heads * sum(sizes), 1 << 16 | 2, form.window, form.scale,
            form.cap, *strides,
        ]  # fmt: skip

    def check(self, rtol: float, atol: float) -> None:
        """Run the kernel for all forms, and compare."""
        y = empty_rows(*self.want.shape)
        arguments = self.arguments(self.q, y, y.shape[1])
        launch("attention", self.form.constants(), arguments, (self.form.n_heads, len(y)))
        check(y, self.want, rtol, atol)


class Run(RunBlock):
    """A run block with the cells of cross attention."""

    def see(self, cells: int) -> None:
        """Set how many cells every segment sees."""
        self._segments[:, 3] = cells


def case(form: Form, segments: Segments, ring: int = 0) -> Case:
    """Make a case of segments (rows, position); `ring` is how many pages a table has, 0 for all."""
    rng = np.random.default_rng([form.dk, form.dv, len(segments)])
    cells = [form.cross or rows + position for rows, position in segments]
    keys = [_random(rng, n, form.heads * form.dk) for n in cells]
    size = np.float32(form.magnitude)
    values = [size * _random(rng, n, form.heads * form.dv) for n in cells]
    queries = [_random(rng, rows, form.n_heads * form.dk) for rows, _ in segments]
    n_pages = [-(-n // PAGE_TOKENS) for n in cells]
    numbers = rng.permutation(sum(n_pages) + 1).astype(np.int32)
    tables = np.split(numbers[: sum(n_pages)], np.cumsum(n_pages)[:-1])
    run = Run(segments, [[table[:0], _ring(table, ring)] for table in tables])
    run.see(form.cross)
    pages, want = _pages(form, len(numbers)), []
    for (rows, position), k, v, q, table in zip(
        segments, keys, values, queries, tables, strict=True
    ):
        first = 0 if form.alone else form.first_seen(position)
        k, v = _write(form, pages, table, first, k, v)
        at = np.arange(position, position + rows), np.arange(len(k))
        v = np.clip(v, -form.largest, form.largest)
        want.append(reference.attention(q, k, v, *at, **form.options()))
    q = rows_of(np.concatenate(queries))
    made = Case(form, run, q, pages, np.concatenate(want))
    if form.alone:
        made.rows = rows_of(np.concatenate(keys)), rows_of(np.concatenate(values))
    return made


def _random(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, np.float32)


def _ring(table: Array, n: int) -> Array:
    """Return the last n pages, that of block i at place i % n."""
    return np.roll(table[-n:], len(table) - n) if n else table


def _pages(form: Form, n: int) -> Array:
    cell = cache_types.cell_bytes(form.kv, [(form.heads, form.dk, form.dv)])
    return np.full((n, PAGE_TOKENS * cell), 0xFF, np.uint8)


def _write(
    form: Form, pages: Array, table: Array, first: int, k: Floats, v: Floats
) -> tuple[Floats, Floats]:
    """Write cells from `first` on; returns them as the cache has them."""
    if form.alone:
        return k, v
    sizes = form.heads, form.dk, form.dv
    kinds = cache_types.rows_of(form.kv, sizes)
    k_items, v_items = (
        rows.encode(x.reshape(len(x), form.heads, -1))
        for rows, x in zip(kinds, (k, v), strict=True)
    )
    for position in range(first, len(k)):
        page = pages[table[position // PAGE_TOKENS]]
        own_keys, own_values = cache_types.page_views(form.kv, sizes, page)
        own_keys[:, :, position % PAGE_TOKENS] = k_items[position]
        own_values[:, position % PAGE_TOKENS] = v_items[position]
    decoded = (rows.decode(items) for rows, items in zip(kinds, (k_items, v_items), strict=True))
    k, v = (x.reshape(len(x), -1) for x in decoded)
    return k, v
