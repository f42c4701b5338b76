"""The backend contract: what a device must do to run a model. A backend is one file beside this.

`open(**options)` in the backend's file returns its `Backend`. The life of a model on a backend:
`add_weight` for every tensor, `new_pool` for every cache of the graph, `compile` the graph, `run`
batches, `close`. Anything a backend cannot do raises `BackendUnavailable` with the reason.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jitllm.backends.ir import CacheSpec, Graph
from jitllm.kernels.cache_types import PAGE_TOKENS as PAGE_TOKENS  # for backends and above

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
OUTPUT_BYTES = 1 << 26  # of the logits of one run, unless one row has more
# Called with a hook point and its rows, which it may change in place.
Tap = Callable[[str, Floats], None]
# The rest of a run: each item is the name of a hook point, the end is the logits.
Steps = Generator[str, None, Floats]
# The same, where the end is ids and values of the largest logits.
BestSteps = Generator[str, None, tuple[Ints, Floats]]


class BackendUnavailable(RuntimeError):
    """The device is missing, or cannot do what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor as it stands in the file.

    `shape` is in NumPy order: (out, in) for a matrix, (experts, out, in) for a stack of them.
    `data` is uint8 and may be a view of a mapped file; `release` gives its pages back.
    """

    name: str
    type_name: str
    shape: tuple[int, ...]
    data: Bytes
    release: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive rows of a batch that belong to one sequence.

    `tables[c]` is the page table of cache c: int32, cell p lies in page `table[p // 64]`.
    Row i has position `position + i`; cells before `position` are already written. States of the
    sequence before the first row are in slot `state_in` (-1: all zero), those behind the last row
    go to slot `state_out`, another one: a run that is interrupted has changed nothing. In caches
    with `cross` the first `n_cross` cells are written.
    """

    row: int
    rows: int
    position: int
    tables: Sequence[Ints]
    state_in: int = -1
    state_out: int = -1
    n_cross: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens of one run: int32 `tokens` and `positions` [T], `output_rows` [O] ascending.

    `hidden` are the float32 rows [T, n] of graphs that have the operation `input_rows`.
    """

    tokens: Ints
    positions: Ints
    output_rows: Ints
    segments: Sequence[Segment]
    hidden: Floats | None = None


@dataclass(frozen=True, slots=True)
class DrawStep:
    """What one sampler does: its name, the number that it goes by, and the fewest it keeps."""

    name: str
    amount: float = 0.0
    least: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """How a token is chosen: steps on the `n` largest logits, which descend; the last one chooses.

    Steps do what the samplers of that name do, see `jitllm.llm.sampling`; `amount` of "min_p" is a
    logarithm, that of "dist" the random number.
    """

    n: int
    steps: tuple[DrawStep, ...]


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of a device: all, and those that nobody uses now."""

    total: int
    free: int


class Pool(ABC):
    """Memory of one cache: `n_pages` pages of 64 cells for each of its layers."""

    spec: CacheSpec
    n_pages: int
    kv_dtype: str

    @property
    @abstractmethod
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""

    @abstractmethod
    def copy_page(self, source: int, target: int) -> None:
        """Copy page `source` over page `target` in every layer."""

    @abstractmethod
    def read(self, layer: int, page: int) -> tuple[Floats, Floats]:
        """Return a page as float32 keys [64, G*dk] and values [64, G*dv]."""

    @abstractmethod
    def write(self, layer: int, page: int, keys: Floats, values: Floats) -> None:
        """Overwrite a page with float32 keys [64, G*dk] and values [64, G*dv]."""

    @abstractmethod
    def cell_bytes(self, layer: int) -> int:
        """Bytes of one cell of one layer in the form of `read_cells`."""

    @abstractmethod
    def read_cells(self, layer: int, page: int, start: int, stop: int, out: Bytes) -> None:
        """Copy the n cells start to stop - 1 of a page to `out`, n * cell_bytes(layer) bytes.

        They stay as they are stored, bit for bit, in a form that all backends share: keys, then
        values. Those of a float type are numbers, keys [G, dk, n] and values [G, n, dv]; those of
        a quantized type are GGUF blocks along a head, [G, n, bytes of a row], of rows that were
        multiplied with a Hadamard matrix where `jitllm.kernels.cache_types` says so.
        """

    @abstractmethod
    def write_cells(self, layer: int, page: int, start: int, stop: int, data: Bytes) -> None:
        """Overwrite cells with what `read_cells` gave, also that of another backend."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory."""


class StatePool(ABC):
    """Memory of `Graph.states`: `n_slots` slots, each with all states of one sequence."""

    sizes: tuple[int, ...]
    n_slots: int

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return 4 * sum(self.sizes)

    @abstractmethod
    def read(self, slot: int, state: int) -> Floats:
        """Return a copy of a state, float32 [size]."""

    @abstractmethod
    def write(self, slot: int, state: int, values: Floats) -> None:
        """Overwrite a state with float32 [size]."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory."""


class Program(ABC):
    """A compiled graph."""

    max_tokens: int

    def run(self, batch: Batch, tap: Tap | None = None) -> Floats:
        """Run a batch of at most `max_tokens` rows; returns logits float32 [O, vocab_size].

        `tap` is called, in execution order, for every hook point the program was compiled with;
        what it writes into the array is what the rest of the graph sees. The returned array is
        the caller's.
        """
        return cast(Floats, _ended(self.steps(batch, tap)))

    def steps(self, batch: Batch, tap: Tap | None = None) -> Steps:
        """Run a batch as `run` does, with a pause before the tap of every value.

        Each item is the name of the value that the tap will get; other programs may run meanwhile.
        A program can have `run` instead: then its device can only hold whole models.

        Raises
        ------
        BackendUnavailable
            If it does.
        """
        raise BackendUnavailable(f"{type(self).__name__} runs whole models only: it has no steps")

    @property
    def most_best(self) -> int:
        """Most logits of a row that `best` finds; 0 if the device cannot, or would save nothing."""
        return 0

    def best(self, batch: Batch, k: int) -> tuple[Ints, Floats]:
        """Run a batch; returns ids int32 [O, k] and values float32 [O, k] of the largest logits.

        They descend, NaN first; of equal ones the lower id comes first. The program has no taps.

        Raises
        ------
        BackendUnavailable
            If k is more than `most_best`.
        """
        return cast(tuple[Ints, Floats], _ended(self.best_steps(batch, k)))

    def best_steps(self, batch: Batch, k: int, tap: Tap | None = None) -> BestSteps:
        """Run a batch as `best` does, with pauses as in `steps`."""
        raise BackendUnavailable(f"{type(self).__name__} finds no largest logits")

    def can_draw(self, draw: Draw) -> bool:
        """Whether `draw` does all steps of this one; for a device that cannot, the host does."""
        return False

    def draw(self, batch: Batch, draws: Sequence[Draw]) -> Ints:
        """Run a batch and choose a token for each output row; returns ids int32 [O].

        An id is below 0 where the largest logit is NaN or infinite. The program has no taps.

        Parameters
        ----------
        batch : Batch
            With output rows.
        draws : sequence of Draw
            One for each output row, which the program can do.

        Raises
        ------
        BackendUnavailable
            If it cannot.
        """
        raise BackendUnavailable(f"{type(self).__name__} chooses no tokens")

    def logits(self, row: int) -> Floats:
        """Return the logits of output row `row` of the last `best` or `draw`, float32 [vocab_size].

        They are there until the program runs again.
        """
        raise BackendUnavailable(f"{type(self).__name__} keeps no logits")

    @abstractmethod
    def close(self) -> None:
        """Free the buffers."""


class Backend(ABC):
    """One device with the weights of one model."""

    name: str
    description = ""
    """What the device is, for people."""
    holds_pools = False
    """Whether caches and states take their memory when they are made, not when it is used."""

    @abstractmethod
    def add_weight(self, weight: Weight) -> None:
        """Take a tensor over, in whatever layout the device computes with."""

    @abstractmethod
    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Allocate a cache.

        `kv_dtype` is one of `jitllm.kernels.cache_types.NAMES`, or two of them joined by "/" for
        keys and values. ValueError if there is no such type, or heads are no whole blocks of it.
        """

    @abstractmethod
    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Allocate the states of a graph; `compile` uses the pool made last."""

    @abstractmethod
    def compile(
        self, graph: Graph, pools: Sequence[Pool], *, max_tokens: int, taps: frozenset[str]
    ) -> Program:
        """Prepare a graph for runs of up to `max_tokens` rows, with these hook points live.

        Every value named in `taps` is computed and can be changed; the bits of all others do not
        depend on `taps`.
        """

    @abstractmethod
    def memory(self) -> dict[str, int]:
        """Return bytes held, by purpose: "weights", "caches", "buffers"."""

    def memory_by_device(self) -> dict[str, dict[str, int]]:
        """Return the same for each device."""
        return {self.name: self.memory()}

    def device_memory(self) -> DeviceMemory | None:
        """Return the memory of the device itself; None where it does not tell, or is the host's."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Free everything; a closed backend cannot be used again."""


def most_outputs(graph: Graph, max_tokens: int) -> int:
    """Return how many output rows a run should have at most; for more, buffers may grow."""
    return max(1, min(max_tokens, OUTPUT_BYTES // (4 * graph.vocab_size)))


def _ended(steps: Generator[str, None, Any]) -> Any:
    """Run all steps; returns what they end with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def rows_of(batch: Batch, width: int) -> Floats:
    """Return the float rows of a batch [T, width]; `ValueError` if it has others or none."""
    expected, rows = (len(batch.tokens), width), batch.hidden
    if rows is None or rows.shape != expected:
        got = "none" if rows is None else f"shape {rows.shape}"
        raise ValueError(f"expected hidden rows of shape {expected} beside the tokens, got {got}")
    return rows


def options_error(device: str, options: dict[str, Any]) -> TypeError:
    """Return the error for options a backend does not take."""
    return TypeError(f"device {device!r} does not take the options {sorted(options)}")
