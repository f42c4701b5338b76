"""A plan: ops in order, the memory they work in, and where threads must meet.

Ops that touch different memory run without a barrier between them: `Planner.emit` compares what an
op reads and writes with what was touched since the last one. Buffers of values whose last reader
has been emitted are used again.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.backends._cpu.memory import mapping
from jitllm.backends._cpu.threads import aligned
from jitllm.kernels import abi, jit

LINE = 64
AHEAD_BYTES = 512 << 10  # most that is read ahead: half of a core's second-level cache


@dataclass(frozen=True, slots=True)
class Buffer:
    """Rows of memory: `start` bytes into the plan's arena, `stride` bytes from row to row."""

    start: int
    stride: int
    size: int


@dataclass(slots=True)
class PlannedOp:
    """One kernel call: its argument block, and what it costs per row (multiply-adds)."""

    kernel: tuple[abi.Op, tuple[tuple[str, Any], ...]]
    block: npt.NDArray[np.int64]
    cost: float
    barrier: bool = True
    constant: tuple[int, int] = (0, 0)


@dataclass
class Arena:
    """Places for buffers, first fit; sizes only, so a plan can be made before memory is."""

    size: int = 0
    _free: list[tuple[int, int]] = field(default_factory=list)  # (start, size), sorted

    def take(self, size: int) -> int:
        """Return the start of `size` free bytes; no bytes are anywhere."""
        size = -(-size // LINE) * LINE
        if not size:
            return 0
        for i, (start, room) in enumerate(self._free):
            if room >= size:
                self._free[i : i + 1] = [(start + size, room - size)] if room > size else []
                return start
        self.size += size
        return self.size - size

    def give(self, start: int, size: int) -> None:
        """Take bytes back."""
        if not size:
            return
        spans = sorted([*self._free, (start, -(-size // LINE) * LINE)])
        merged: list[tuple[int, int]] = []
        for begin, room in spans:
            if merged and sum(merged[-1]) == begin:
                merged[-1] = (merged[-1][0], merged[-1][1] + room)
            else:
                merged.append((begin, room))
        self._free = merged


# Memory an op touches: (space, start, end). Space "" is the arena.
Span = tuple[Any, int, int]


def _overlap(a: list[Span], b: list[Span]) -> bool:
    return any(x[0] == y[0] and x[1] < y[2] and y[1] < x[2] for x in a for y in b)


@dataclass
class Planner:
    """Collects ops. Addresses in the arena are offsets until `finish`."""

    run: int
    arena: Arena = field(default_factory=Arena)
    ops: list[PlannedOp] = field(default_factory=list)
    _arena_words: list[tuple[int, int]] = field(default_factory=list)  # (op, word)
    _reads: list[Span] = field(default_factory=list)
    _writes: list[Span] = field(default_factory=list)

    def emit(
        self,
        op: abi.Op,
        reads: list[Buffer | Span],
        writes: list[Buffer | Span],
        *,
        cost: float,
        constant: tuple[int, int] = (0, 0),
        params: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        """Add an op; values that are `Buffer` stand for their address.

        `constant` is address and bytes of what it reads that no op writes: its weights.
        """
        names = [name.partition(":")[0] for name in op.fields]
        for word, name in enumerate(names, 1):
            if isinstance(values[name], Buffer):
                self._arena_words.append((len(self.ops), word))
                values[name] = values[name].start
        self._meet(_spans(reads), _spans(writes))
        key = (op, tuple(sorted((params or {}).items())))
        self.ops.append(PlannedOp(key, op.pack(self.run, **values), cost, constant=constant))

    def _meet(self, reads: list[Span], writes: list[Span]) -> None:
        clash = _overlap(writes, self._reads) or _overlap(writes + reads, self._writes)
        if self.ops:
            self.ops[-1].barrier = clash
        if clash:
            self._reads, self._writes = [], []
        self._reads += reads
        self._writes += writes

    @property
    def n_bytes(self) -> int:
        """Bytes of the plan that `finish` makes."""
        words = max(1, len(self.ops)) * abi.OP_BYTES
        return self.arena.size + LINE + words + _block_bytes(self.ops)

    def finish(self) -> "Plan":
        """Make the memory and the op list; compiles kernels that were never used before."""
        memory = mapping(self.arena.size + LINE)
        base = memory.ctypes.data
        for index, word in self._arena_words:
            self.ops[index].block[word] += base
        words = aligned(max(1, len(self.ops)) * abi.OP_BYTES).view(np.int64)
        words = words.reshape(-1, abi.OP_WORDS)
        for row, planned in zip(words, self.ops, strict=False):
            op, params = planned.kernel
            row[abi.OP_KERNEL] = jit.address(op.module, op.function, **dict(params))
            row[abi.OP_ARGS] = planned.block.ctypes.data
            row[abi.OP_BARRIER] = planned.barrier
        self._name_ahead(words)
        return Plan(memory, self.ops, words)

    def _name_ahead(self, words: npt.NDArray[np.int64]) -> None:
        """Tell each op what weights come after its group: see `kernels/cpu/executor.py`."""
        after, coming = (0, 0), (0, 0)  # behind the group; from the op at hand on
        for row, planned in zip(words[::-1], self.ops[::-1], strict=False):
            if planned.barrier:
                after = coming
            row[abi.OP_AHEAD] = after[0]
            row[abi.OP_AHEAD_BYTES] = min(after[1], AHEAD_BYTES)
            if planned.constant[1]:
                coming = planned.constant


def _spans(touched: list[Buffer | Span]) -> list[Span]:
    return [("", t.start, t.start + t.size) if isinstance(t, Buffer) else t for t in touched]


def _block_bytes(ops: list[PlannedOp]) -> int:
    return sum(op.block.nbytes for op in ops)


@dataclass
class Plan:
    """Ops ready to run, and their memory."""

    memory: npt.NDArray[np.uint8]
    ops: list[PlannedOp]
    words: npt.NDArray[np.int64]

    @property
    def n_bytes(self) -> int:
        """Bytes of the memory, the op list and what ops are given."""
        return self.memory.nbytes + self.words.nbytes + _block_bytes(self.ops)

    @property
    def address(self) -> int:
        """Address of the op list."""
        return int(self.words.ctypes.data)

    def rows(self, buffer: Buffer, n_rows: int, width: int) -> npt.NDArray[np.float32]:
        """Return a float32 view [n_rows, width] of a buffer."""
        return np.ndarray(
            (n_rows, width), np.float32, self.memory.data, buffer.start, (buffer.stride, 4)
        )
