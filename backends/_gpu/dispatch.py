"""What a lowered graph consists of: dispatches of kernels, and the memory that they touch."""

from dataclasses import dataclass, replace

from jitllm.backends.ir import Node

MOST_ROWS = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """Memory that a dispatch touches.

    `space` is "T" or "O", values with so many rows, whose `start` and `size` are bytes for each
    row; "best", with the rows of "O"; "fixed", memory that no rows count for; "run", the run
    block, and "rows" behind it, by the tokens of a run; "constants"; or "", where `start` is an
    address. `shift` bytes are added in the end. `stride` is the distance of rows in floats.
    """

    space: str
    start: int
    size: int
    stride: int = 0
    shift: int = 0

    def columns(self, first: int) -> "Place":
        """Return the place of the columns from `first` on."""
        return replace(self, shift=self.shift + 4 * first)

    def meets(self, other: "Place") -> bool:
        """Whether both share memory. Whole rows count: columns lie beside each other."""
        return (
            self.space == other.space
            and self.start < other.start + max(other.size, 1)
            and other.start < self.start + max(self.size, 1)
        )


@dataclass(frozen=True, slots=True)
class Form:
    """A kernel for runs of at least so many rows: `groups` workgroups for each `tile` of them.

    `addresses` come first in its arguments, `words` behind them. There are `more` tiles than the
    rows fill.
    """

    kernel: str
    constants: tuple[int, ...]
    addresses: tuple[Place | None, ...]
    words: tuple[int | float, ...]
    groups: int
    tile: int = 1
    least: int = 1
    more: int = 0


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One call of a kernel, in the last of its forms that the rows of a run are enough for.

    Runs of more than `most` rows, or too few for all forms, do without it. There are `fan` rows for
    each one of the values whose rows are counted by `rows`.
    """

    forms: tuple[Form, ...]
    rows: str
    fan: int = 1
    most: int = MOST_ROWS
    barrier: bool = True

    def form(self, n_rows: int) -> Form | None:
        """Return what a run of so many rows calls."""
        fitting = [form for form in self.forms if form.least <= n_rows <= self.most]
        return fitting[-1] if fitting else None


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where a run stops for Python, after dispatch `stop`."""

    stop: int
    node: Node
    place: Place
    inputs: tuple[Place, ...] = ()
