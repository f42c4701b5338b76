"""Products on CUDA: which kernel takes how many rows at a time."""

from collections.abc import Mapping
from dataclasses import dataclass

from jitllm.backends._cuda.chip import Chip
from jitllm.backends._gpu.dispatch import Form, Place
from jitllm.kernels import formats, packed
from jitllm.kernels.cuda._layout import GROUP

BUSY_WARPS = 32  # of a multiprocessor, that few rows are split for
MOST_SLOTS = 5  # for each row: what does not fill tiles of 8 if an expert has two of them
# What activations are: ends of kernels' names.
INT8, HALF, FLOAT = "", "_half", "_float"


@dataclass(frozen=True, slots=True)
class Scheme:
    """How rows are multiplied that are few, many, or sorted by experts.

    Attributes
    ----------
    few : str
        What activations are where rows are few.
    at_once : tuple of int
        Rows that are taken at a time then.
    many : tuple of (int, int, str)
        Rows of a tile, the rows that a run must have for it, what activations are.
    sorted_rows : tuple of (int, int, str)
        The same of tiles with one expert, for rows that experts have on average.
    """

    few: str
    at_once: tuple[int, ...]
    many: tuple[tuple[int, int, str], ...]
    sorted_rows: tuple[tuple[int, int, str], ...]

    def sizes(self, experts: int) -> tuple[tuple[int, int, str], ...]:
        """Return `many`, or the same of rows sorted by so many experts."""
        if not experts:
            return self.many
        return tuple((rows, mean * experts + 1, kind) for rows, mean, kind in self.sorted_rows)


CODES = Scheme(
    INT8, (1, 2, 4, 8), ((16, 9, INT8), (32, 17, INT8), (64, 33, HALF)),
    ((8, 2, INT8), (16, 12, INT8), (32, 24, INT8), (64, 48, HALF)),
)  # fmt: skip
HALVES = Scheme(
    FLOAT, (1, 2, 4),
    ((8, 5, HALF), (16, 9, HALF), (32, 17, HALF), (64, 33, HALF), (128, 65, HALF)),
    ((8, 2, HALF), (16, 12, HALF), (32, 24, HALF), (64, 48, HALF)),
)  # fmt: skip
EXACT = Scheme(
    FLOAT, (1, 2, 4), ((32, 17, FLOAT), (64, 33, FLOAT)), ((32, 8, FLOAT), (64, 48, FLOAT))
)  # fmt: skip


def scheme_of(type_name: str, k: int, heads: int, *, is_exact: bool) -> Scheme:
    """Return how a type is multiplied; weights of F32, such as those of routers, stay as exact."""
    if is_exact or type_name == "F32" or (heads > 1 and k % GROUP):
        return EXACT
    return HALVES if formats.get(type_name).scales == "float" else CODES


def is_integer(type_name: str, chip: Chip) -> bool:
    """Return whether 64 rows of x times codes take fewer clocks in int8 than in float16.

    Counted are 32 outputs and columns. Each of four schedulers has a fourth of the units and begins
    an instruction a clock; the most used unit is what takes the time. Instructions are those that
    ptxas 13.0 makes for 9.0.
    """
    fmt = formats.get(type_name)
    parts, has_offset = 32 // fmt.group, fmt.scales in ("dm", "k_dm")
    steps = 8 * parts  # of 8 rows and a scale
    single = steps * (27 if has_offset else 17)  # instructions on float32
    integer = max(
        4 * steps * 32 * 8 * 32 / chip.int8,
        128 * single / chip.float32,
        single + 5 * steps + 80,
    )
    half = max(4 * 64 * 32 * 32 / chip.float16, 170)
    return integer < half


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows sorted by their experts, of which there are `n`; see the kernel "group_rows"."""

    slots: Place
    tiles: Place
    n: int


@dataclass(frozen=True, slots=True)
class Product:
    """y = x w^T, as kernels get it: of (n, k), or of one for each of `heads`.

    Attributes
    ----------
    sources : mapping
        x, by what its numbers are.
    places : tuple of places
        rows, w, y, bias, scales, weights.
    residual, ids : Place or None
    words, flags : tuple of int
    """

    type_name: str
    n: int
    k: int
    heads: int
    scheme: Scheme
    sources: Mapping[str, Place]
    places: tuple[Place | None, ...]
    residual: Place | None
    ids: Place | None
    words: tuple[int, ...]
    flags: tuple[int, ...]
    chip: Chip

    def vectors(self) -> list[Form]:
        """Return the forms for few rows; of experts one row is taken at a time."""
        kind, blocks = self.scheme.few, -(-self.n // packed.ROWS) * self.heads
        split = self._split(blocks, 8)
        return [
            Form(
                f"matvec{kind}.{self.type_name.lower()}", (rows, split, *self.flags),
                (*self._addresses(kind), self.ids, self.residual), self.words,
                -(-blocks * split // 8), rows, rows // 2 + 1,
            )
            for rows in self.scheme.at_once[: 1 if self.ids else None]
        ]  # fmt: skip

    def tiles(self, grouped: Grouped | None) -> list[Form]:
        """Return the forms for many rows."""
        slots, tiles, n = (grouped.slots, grouped.tiles, grouped.n) if grouped else (None, None, 0)
        after, sizes = (slots, tiles, self.residual), self.scheme.sizes(n)
        return [self._tile(*size, after, n) for size in sizes if size[0] <= self._most_rows()]

    def _most_rows(self) -> int:
        """Return 128 where tensor cores are so fast that caches must feed a tile of 64 too much."""
        return 128 if self.chip.float16 >= 1024 else 64

    def _tile(
        self, rows: int, least: int, kind: str, after: tuple[Place | None, ...], more: int
    ) -> Form:
        if kind == HALF and HALF not in self.sources:
            kind = INT8
        split, wide = 1, -(-self.n // 32)
        if rows < 64:
            split = self._split(wide * self.heads, 4)
        constants = (rows, *self.flags) if kind == FLOAT else (rows, split, *self.flags)
        groups = (-(-self.n // 64) if kind == FLOAT else -(-wide * split // 4)) * self.heads
        if rows >= 64 and not more:
            least = max(least, self._least(rows, groups))
        return Form(
            f"matmul{kind}.{self.type_name.lower()}", constants,
            (*self._addresses(kind), *after), self.words, groups, rows, least, more,
        )  # fmt: skip

    def _least(self, rows: int, groups: int) -> int:
        """Return how many rows it takes that tiles of `rows` keep three of four multiprocessors."""
        return rows * (-(-3 * self.chip.multiprocessors // (4 * groups)) - 1) + 1

    def _split(self, units: int, most: int) -> int:
        """Return how many warps share outputs: each has 8 groups of columns or more."""
        split, busy = 1, BUSY_WARPS * self.chip.multiprocessors
        while split < most and units * split < busy and self.k >= 16 * GROUP * split:
            split *= 2
        return split

    def _addresses(self, kind: str) -> tuple[Place | None, ...]:
        return (*self.places[:2], self.sources[kind], *self.places[2:])
