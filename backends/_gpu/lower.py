"""From nodes to dispatches: what each operation asks of the kernels, and where its values lie."""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from jitllm.backends._cpu.plan import LINE, Arena
from jitllm.backends._gpu.device import Kernels
from jitllm.backends._gpu.dispatch import Cut, Dispatch, Form, Place
from jitllm.backends._gpu.memory import GpuPool, GpuStates, Matrix, row_bytes
from jitllm.backends.base import PAGE_TOKENS, BackendUnavailable, Floats, most_outputs
from jitllm.backends.ir import Graph, Node, Value

if TYPE_CHECKING:
    from jitllm.backends._gpu.best import Best

LANES = 64  # of all workgroups
STATE_COLUMNS = 16  # of a head's state, that a workgroup takes through the rows of a segment
TILE, PER = 4, 4  # rows, and outputs, of a lane where a product has several rows
MOST_GROUPS = 32768  # of one dimension of a dispatch; devices have 65535 or more
# Kernels know them by their places.
ACTIVATIONS = (
    "silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu_squared", "sigmoid", "tanh", "softplus",
)  # fmt: skip
FORMS = ("swiglu_clamp", "swiglu_limit", "swiglu_oai", "situ")
# Offsets in the run block, as kernels read it.
N_TOKENS, N_OUTPUTS, SEGMENTS, TABLES, ROW_SEGMENTS, HEADER = 0, 4, 8, 16, 24, 64
SEGMENT_WORDS = 8
_OF_THE_HOST = ("run", "rows", "constants")  # spaces that no dispatch writes


class Lowering:
    """Makes the dispatches of one graph.

    Parameters
    ----------
    kernels : Kernels
    graph : Graph
    weights : mapping
        Matrices on the device by tensor name.
    vectors : mapping
        float32 vectors by tensor name.
    pools : sequence of GpuPool
    max_tokens : int
    taps : frozenset of str
    states : GpuStates, optional
        None where only sizes matter, or the graph has none.
    """

    own: Mapping[str, Callable[[Any, Node], None]] = {}  # what lowers operations otherwise
    columns = LANES  # of a workgroup of "unary" and "binary"

    def __init__(
        self,
        kernels: Kernels,
        graph: Graph,
        weights: Mapping[str, Matrix],
        vectors: Mapping[str, Floats],
        pools: Sequence[GpuPool],
        *,
        max_tokens: int,
        taps: frozenset[str],
        states: GpuStates | None = None,
    ) -> None:
        self.graph, self.weights, self.vectors, self.pools = graph, weights, vectors, pools
        self.states = states
        self.kernels, self.node = kernels, graph.nodes[0]  # which is lowered now
        self.max_tokens, self.taps = max_tokens, taps
        self.max_outputs = most_outputs(graph, max_tokens)
        self.dispatches: list[Dispatch] = []
        self.done: set[str] = set()  # nodes that a dispatch before does
        self.kept: set[str] = set()  # those whose keys and values have been written
        self.cuts: list[Cut] = []
        self.arenas = {"T": Arena(), "O": Arena(), "best": Arena(), "fixed": Arena()}
        self.best: dict[int, Best] = {}  # what finds so many logits of each row
        self.constants: list[tuple[Place, Floats]] = []
        self.constant_bytes = 0
        self.counts: dict[tuple[str, int], Place] = {}  # numbers of rows that a run must set
        self.angles: dict[bytes, tuple[Place, Floats]] = {}
        self.factors: list[tuple[Place, Mapping[str, Any]]] = []
        self.input_rows: list[tuple[Place, int]] = []
        self.copies: list[tuple[Place, Floats]] = []  # arrays that are read at every run
        self.totals: list[tuple[str, Place, Any]] = []  # that runs with such rows are added to
        self.run_bytes, self.row_bytes = HEADER, 0
        self._constant_places: dict[str | bytes, Place] = {}
        self._places: dict[int, Place] = {}
        self._owner: dict[int, int] = {}  # value whose memory another value uses
        self._readers = Counter(value.id for node in graph.nodes for value in node.inputs)
        self._reads: list[Place] = []
        self._writes: list[Place] = []
        self._given: list[Place] = []
        self.tokens, self.positions, self.output_rows, self.row_segments = (
            self.row_place(4) for _ in range(4)
        )
        self.segments = self.row_place(4 * SEGMENT_WORDS)

    def lower(self) -> None:
        """Lower every node; `BackendUnavailable` names one whose operation is missing."""
        from jitllm.backends._gpu.best import find_best  # which needs this class

        for node in self.graph.nodes:
            self.node = node
            if node.name not in self.done:
                operation(self, node)(self, node)
            out = node.outputs[0]
            self._cut(node, out)
            for value in node.inputs:
                self._release(value.id)
            if out.width and not self._readers[out.id] and out.id != self.graph.output.id:
                self._readers[out.id] = 1
                self._release(out.id)
        self.best = find_best(self)

    def _cut(self, node: Node, out: Value) -> None:
        stop = len(self.dispatches)
        if f"{node.name}.pattern" in self.taps:
            inputs = tuple(self._places[value.id] for value in node.inputs)
            self.cuts.append(Cut(stop, node, self._places[out.id], inputs))
        if node.name in self.taps:
            self.cuts.append(Cut(stop, node, self._places[out.id]))

    def _release(self, value: int) -> None:
        self._readers[value] -= 1
        if self._readers[value]:
            return
        if value in self._owner:
            self._release(self._owner[value])
        elif value in self._places:
            self.give(self._places[value])

    def lacking(self, what: str = "") -> BackendUnavailable:
        """Return the error for a node that kernels cannot do, or of which they lack a part."""
        node, backend = self.node, self.kernels.backend
        return BackendUnavailable(
            f"the {backend} backend has no operation {node.op!r} (node {node.name!r})"
            f"{what and ': it ' + what}; use another device"
        )

    # --- places ---

    def place(self, value: Value) -> Place:
        """Return where a value is."""
        return self._places[value.id]

    def new(self, value: Value) -> Place:
        """Return a place for a value."""
        place = self._places[value.id] = self.take(value.rows, value.width)
        return place

    def take(self, rows: str, width: int) -> Place:
        """Return a place for `width` numbers for each of the rows."""
        stride = -(-width * 4 // LINE) * LINE // 4
        return Place(rows, self.arenas[rows].take(4 * stride), 4 * stride, stride)

    def take_bytes(self, space: str, nbytes: int) -> Place:
        """Return a place of `nbytes` bytes in a space, for each row where its rows count."""
        return Place(space, self.arenas[space].take(nbytes), nbytes)

    def give(self, place: Place, *, now: bool = False) -> None:
        """Let dispatches behind the next barrier use the memory, or `now` all later ones.

        Those before the barrier may run beside what uses the memory still, and so they do.
        """
        if now:
            self.arenas[place.space].give(place.start, place.size)
        else:
            self._given.append(place)

    def share(self, value: Value, source: Value, first: int) -> None:
        """Make a value the columns of another from `first` on."""
        self._places[value.id] = self._places[source.id].columns(first)
        self._owner[value.id] = source.id
        self._readers[source.id] += 1

    def state(self, node: Node) -> tuple[Place, int]:
        """Return where a node's state is in the first slot, and the bytes of a slot."""
        index, states = node.attrs["state"], self.states
        sizes = states.sizes if states else self.graph.states
        first = states.memory.address if states else 0
        return Place("", first + 4 * sum(sizes[:index]), 4 * sizes[index]), 4 * sum(sizes)

    def run_place(self, nbytes: int) -> Place:
        """Return a place in the run block."""
        place = Place("run", self.run_bytes, nbytes)
        self.run_bytes += -(-nbytes // 16) * 16
        return place

    def row_place(self, nbytes: int, stride: int = 0) -> Place:
        """Return a place behind the run block, so many bytes for each token."""
        place = Place("rows", self.row_bytes, nbytes, stride)
        self.row_bytes += -(-nbytes // 16) * 16
        return place

    def count(self, rows: str, fan: int = 1) -> Place:
        """Return where the number of rows is, times `fan`."""
        if fan == 1:
            return Place("run", {"T": N_TOKENS, "O": N_OUTPUTS}[rows], 4)
        if (rows, fan) not in self.counts:
            self.counts[rows, fan] = self.run_place(4)
        return self.counts[rows, fan]

    def constant(self, values: Floats | None) -> Place | None:
        """Return where the numbers of an array are, the same for equal ones; None for None."""
        if values is None:
            return None
        values = np.ascontiguousarray(values, np.float32).reshape(-1)
        return self._placed(values.tobytes(), values)

    def vector(self, name: str) -> Place | None:
        """Return where a small weight is; None for the name ""."""
        return self._placed(name, self.vectors[name]) if name else None

    def _placed(self, key: str | bytes, values: Floats) -> Place:
        if key not in self._constant_places:
            self._constant_places[key] = Place("constants", self.constant_bytes, values.nbytes)
            self.constants.append((self._constant_places[key], values))
            self.constant_bytes += -(-values.nbytes // LINE) * LINE
        return self._constant_places[key]

    def space_bytes(self) -> dict[str, int]:
        """Return what a program takes, by space; "O" and "best" grow for more rows."""
        return {
            "run": self.run_bytes + self.row_bytes * self.max_tokens,
            "constants": self.constant_bytes, "tables": self._table_bytes,
            "T": self.arenas["T"].size * self.max_tokens,
            "O": self.arenas["O"].size * self.max_outputs, "fixed": self.arenas["fixed"].size,
            "best": self.arenas["best"].size * self.max_outputs,
        }  # fmt: skip

    @property
    def _table_bytes(self) -> int:
        """Of page tables, where each row of a run is one of another full sequence."""
        words = 2 + -(-self.graph.n_ctx // PAGE_TOKENS)  # place and length, then pages
        return 4 * words * len(self.pools) * self.max_tokens

    # --- dispatches ---

    def emit(
        self,
        kernel: str,
        addresses: Sequence[Place | None],
        words: Sequence[int | float],
        writes: Sequence[Place],
        *,
        groups: int,
        rows: str,
        constants: Sequence[int] = (),
        **options: int,
    ) -> None:
        """Add a dispatch of one form."""
        form = Form(kernel, tuple(map(int, constants)), tuple(addresses), tuple(words), groups)
        self.emit_forms([form], writes, rows, **options)

    def emit_forms(
        self, forms: Sequence[Form], writes: Sequence[Place], rows: str, **options: int
    ) -> None:
        """Add a dispatch; what its forms have addresses of and do not write, they read."""
        for form in forms:
            if not self.kernels.has(form.kernel):
                raise self.lacking(f"needs the kernel {form.kernel!r}")
        used = dict.fromkeys(place for form in forms for place in form.addresses if place)
        reads = [p for p in used if p not in writes and p.space not in _OF_THE_HOST]
        wait = _meet(reads, self._writes) or _meet(writes, self._writes + self._reads)
        if wait:
            self._reads, self._writes = [], []
            for place in self._given:
                self.arenas[place.space].give(place.start, place.size)
            self._given.clear()
        self._reads += reads
        self._writes += writes
        self.dispatches.append(Dispatch(tuple(forms), rows, barrier=wait, **options))

    def unary(self, node: Node, op: int, *words: float, act: int = 0) -> None:
        """Emit y = f(x) of a node; `op` is a case of the kernel "unary"."""
        (x,), out = node.inputs, node.outputs[0]
        self.apply(op, self.place(x), self.new(out), x.width, x.rows, *words, act=act)

    def apply(
        self, op: int, x: Place, y: Place, width: int, rows: str, *words: float, act: int = 0,
        fan: int = 1,
    ) -> None:  # fmt: skip
        """Emit y = f(x); `op` is a case of the kernel "unary"."""
        numbers = [float(w) for w in words] + [0.0] * (4 - len(words))
        self.emit(
            "unary", [self.count(rows, fan), x, y], [x.stride, y.stride, width, *numbers],
            [y], groups=-(-width // self.columns), rows=rows, fan=fan, constants=(op, act),
        )  # fmt: skip

    def binary(
        self, op: int, a: Place, b: Place | None, y: Place, width: int, rows: str, *, ldb: int,
        part: int = 1, act: int = 0, bounds: tuple[float, float] = (0.0, 0.0), fan: int = 1,
        reader: Matrix | None = None,
    ) -> None:  # fmt: skip
        """Emit y = f(a, b); `op` is a case of the kernel "binary".

        `reader`, if set, is a matrix that y will be multiplied with.
        """
        self.emit(
            "binary", [self.count(rows, fan), a, b, y],
            [a.stride, ldb, y.stride, width, part, float(bounds[0]), float(bounds[1])],
            [y], groups=-(-width // self.columns), rows=rows, fan=fan, constants=(op, act),
        )  # fmt: skip

    def dot(self, name: str, x: Place, y: Place, width: int, rows: str) -> None:
        """Emit the product of each row with a small weight."""
        self._multiply("F32", self.vector(name), (1, width), x, y, rows)

    def product(
        self, w: Matrix, x: Place, y: Place, rows: str, *, heads: int = 1, **options: Any
    ) -> None:
        """Emit y = x w^T, or the product with one matrix for each of `heads`.

        `options` are those of `_multiply`.
        """
        n = prod(w.shape[:-1]) // heads if heads > 1 else w.n
        place = Place("", w.address, 0)
        self._multiply(w.type_name, place, (n, w.k), x, y, rows, heads=heads, **options)

    def _multiply(
        self, type_name: str, w: Place | None, shape: tuple[int, int], x: Place, y: Place,
        rows: str, *, bias: Place | None = None, scales: Place | None = None,
        weights: Place | None = None, ids: Place | None = None, fan: int = 1, x_fan: int = 1,
        heads: int = 1,
    ) -> None:  # fmt: skip
        """Emit y = x w^T for a matrix of `shape` (n, k).

        With `ids` there are `fan` rows for each of x or, if `x_fan` is 1, of y; each has an expert,
        whose products are multiplied by its number of `scales`, then by the row's of `weights`.
        """
        n, k = shape
        parts, routed = -(-k // 32), ids is not None
        lanes = min(32, 1 << (parts.bit_length() - 1))
        flags = [lanes, *(int(p is not None) for p in (ids, bias, scales, weights))]

        def form(tile: int, per: int, least: int) -> Form:
            groups = -(-n * heads // (LANES // lanes * per))
            return Form(
                f"matmul.{type_name.lower()}", (*flags, tile, per),
                (self.count(rows, fan), w, x, y, bias, scales, weights, ids),
                (n, k, x.stride, y.stride, row_bytes(type_name, k), x_fan, heads),
                groups, tile, least,
            )  # fmt: skip

        forms = [form(1, 1, 1)] + [form(TILE, 1 if heads > 1 else PER, 2)] * (not routed)
        self.emit_forms(forms, [y], rows, fan=fan)


def operation(lowering: Lowering, node: Node) -> Callable[[Lowering, Node], None]:
    """Return what lowers a node: the backend's own, `gpu_core.OPS`, or its operation's file."""
    from jitllm.backends._gpu.core import OPS  # which needs the class above

    found = lowering.own.get(node.op) or OPS.get(node.op)
    if found:
        return found
    path = f"jitllm.backends.gpu_ops.{node.op}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # the file is there, and imports what is not
            raise
        raise lowering.lacking() from None
    return cast("Callable[[Lowering, Node], None]", module.lower)


def _meet(some: Sequence[Place], others: Sequence[Place]) -> bool:
    """Whether any two places share memory."""
    return any(a.meets(b) for a in some for b in others)
