"""Products on CUDA: which kernel takes how many rows at a time."""

from dataclasses import dataclass

from jitllm.backends._gpu_lower import Form, Place
from jitllm.kernels import packed
from jitllm.kernels.cuda._layout import GROUP

BUSY_WARPS = 4224  # 32 for each of 132 multiprocessors
VECTOR_ROWS, TILE_ROWS = (1, 2, 4, 8), (16, 32, 64)  # of x at a time: of few rows, of many
EXACT_VECTOR_ROWS, EXACT_TILE_ROWS = (1, 2, 4), (32, 64)
# Rows of a tile of one expert, and how many rows an expert has on average before it is worth it.
GROUPS, EXACT_GROUPS = ((8, 2), (16, 12), (32, 24), (64, 48)), ((32, 8), (64, 48))
MOST_SLOTS = 5  # for each row: what does not fill tiles of 8 if an expert has two of them


@dataclass(frozen=True, slots=True)
class Product:
    """y = x w^T, as kernels get it: of (n, k), or of one for each of `heads`."""

    type_name: str
    n: int
    k: int
    heads: int
    is_exact: bool
    addresses: tuple[Place | None, ...]  # rows, w, x, y, bias, scales, weights
    residual: Place | None
    words: tuple[int, ...]
    flags: tuple[int, ...]

    def vectors(self, ids: Place | None) -> list[Form]:
        """Return the forms for few rows; with `ids` they take one row at a time."""
        name = f"matvec{'_float' * self.is_exact}.{self.type_name.lower()}"
        blocks = -(-self.n // packed.ROWS) * self.heads
        split = _split(blocks, self.k, 8)
        tiles = EXACT_VECTOR_ROWS if self.is_exact else VECTOR_ROWS
        return [
            Form(
                name, (tile, split, *self.flags), (*self.addresses, ids, self.residual),
                self.words, -(-blocks * split // 8), tile, tile // 2 + 1,
            )
            for tile in (tiles[:1] if ids else tiles)
        ]  # fmt: skip

    def tiles(self, grouped: "Grouped | None" = None) -> list[Form]:
        """Return the forms for many rows, sorted by experts if `grouped`."""
        slots = grouped.slots if grouped else None
        tiles, more = (grouped.tiles, grouped.n) if grouped else (None, 0)
        addresses = (*self.addresses, slots, tiles, self.residual)
        sizes = grouped.sizes if grouped else _sizes(self.is_exact)
        name = f"matmul{'_float' * self.is_exact}.{self.type_name.lower()}"
        return [
            Form(
                name, (rows, *split, *self.flags), addresses, self.words, groups, rows, least, more
            )
            for rows, least in sizes
            for split, groups in [self._tile_groups(rows)]
        ]

    def _tile_groups(self, rows: int) -> tuple[tuple[int, ...], int]:
        """Return the constants that say how many warps share outputs, and the workgroups."""
        if self.is_exact:
            return (), -(-self.n // 64) * self.heads
        pairs = -(-self.n // 32)
        split = 1 if rows == 64 else _split(pairs * self.heads, self.k, 4)
        return (split,), -(-pairs * split // 4) * self.heads


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows sorted by their experts, of which there are `n`; see the kernel "group_rows".

    `sizes` are those of tiles, each with the rows that a run must have for it.
    """

    slots: Place
    tiles: Place
    n: int
    sizes: tuple[tuple[int, int], ...]


def _sizes(is_exact: bool) -> tuple[tuple[int, int], ...]:
    return tuple((rows, rows // 2 + 1) for rows in (EXACT_TILE_ROWS if is_exact else TILE_ROWS))


def grouped_sizes(n: int, is_exact: bool) -> tuple[tuple[int, int], ...]:
    """Return the sizes of tiles for rows sorted by `n` experts; see `Grouped.sizes`."""
    sizes = EXACT_GROUPS if is_exact else GROUPS
    return tuple((rows, least * n + 1) for rows, least in sizes)


def _split(units: int, k: int, most: int) -> int:
    """Return how many warps share outputs: few units need more, each with 8 groups of columns."""
    split = 1
    while split < most and units * split < BUSY_WARPS and k >= 16 * GROUP * split:
        split *= 2
    return split
