"""Runs GPU kernels on this processor: each GPU thread has a stack, and they go on in turns.

Workgroups run one after another. What is stored where is memory of this process. Shared memory
starts as 0xFF bytes, NaN as float32 and float16.
"""

import ctypes
import ctypes.util
import threading
from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from jitllm.kernels import jit
from jitllm.kernels import level as levels
from jitllm.kernels.cpu import fiber_layout as layout
from jitllm.kernels.gpu import host as gpu_host
from jitllm.kernels.gpu import stacks as gpu_stacks
from jitllm.kernels.gpu.compiler import Code

STACK_BYTES = 32 * 1024
MOST_GROUPS = (1 << 31) - 1, 65535, 65535  # along each axis, on every GPU
_WAITS = ("waits for the workgroup", *["waits for its warp"] * 2, "has ended")
_run_one_grid = threading.Lock()


class KernelFault(RuntimeError):
    """A kernel did what would go wrong on a GPU.

    Threads that had to meet did not, or one wanted to read or write where no memory is, or at an
    address that is not aligned. If someone watches, also: what that one found.
    """


class Watcher(ABC):
    """Is told of every load and store; see `jitllm.kernels.gpu.races` and `.trace`."""

    @abstractmethod
    def begin(self) -> None:
        """Learn that all launches so far are over before the next ones begin."""

    @abstractmethod
    def words(self, code: Code, grid: tuple[int, int, int]) -> dict[int, int]:
        """Return the words of a GPU's state by which to watch a launch; none if not wanted."""

    @abstractmethod
    def report(self, state: npt.NDArray[np.int64], arrays: npt.NDArray[np.int64]) -> str:
        """Say what was found in a launch that is over; "" if all is well.

        Parameters
        ----------
        state : array
            Words of `jitllm.kernels.cpu.fiber_layout`.
        arrays : array
            Where each shared array begins and ends.
        """


class LoadedKernel:
    """A kernel in this process.

    Parameters
    ----------
    code : Code
        From `gpu_compiler.host_object`.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self._begin, self._thread, self._fiber, self._poison, arrays = _load(code.name, code.data)
        self._arrays = np.zeros((max(code.shared, 1), layout.PIECE_WORDS), np.int64)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(arrays)(self._arrays.ctypes.data)
        self._arrays = _in_order(self._arrays[self._arrays[:, layout.END] > 0])

    def run(
        self, arguments: bytes, grid: tuple[int, int, int], pieces: npt.NDArray[np.int64],
        *, is_reversed: bool = False, watcher: Watcher | None = None,
    ) -> None:  # fmt: skip
        """Run all workgroups of a grid.

        Parameters
        ----------
        arguments : bytes
            Packed: addresses of 8 bytes, then words of 4.
        grid : (int, int, int)
            Workgroups along each axis.
        pieces : array
            Where each piece of memory that the kernel may touch begins and ends, int64 [n, 2].
        is_reversed : bool
            Whether the last thread goes first: if that changes a result, a barrier is missing.
        watcher : Watcher or None
            Who is told of every load and store.

        Raises
        ------
        KernelFault
        ValueError
            If the arguments are not as long as the kernel's.
        """
        if len(arguments) != self.code.argument_bytes:
            raise ValueError(
                f"{self.code.name} takes {self.code.argument_bytes} bytes of arguments "
                f"({self.code.parameters}), got {len(arguments)}"
            )
        if any(n > most for n, most in zip(grid, MOST_GROUPS, strict=True)):
            raise KernelFault(f"{self.code.name}: a grid of {grid}, GPUs take up to {MOST_GROUPS}")
        block = ctypes.create_string_buffer(arguments, len(arguments))
        with _run_one_grid:
            gpu = _gpu()
            pieces = _in_order(pieces)
            gpu.set(self._words(grid, is_reversed, ctypes.addressof(block)))
            gpu.set({layout.PIECES: pieces.ctypes.data, layout.N_PIECES: len(pieces)})
            watch = watcher.words(self.code, grid) if watcher else {}
            gpu.set({layout.PLACE: gpu.place, **watch})
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._begin)(gpu.address)
            has_diverged = gpu.run_groups(gpu.address)
            if bad := gpu.bad_access({layout.PIECES: pieces, layout.ARRAYS: self._arrays}):
                raise KernelFault(f"{self.code.name}: {bad}")
            if has_diverged:
                raise KernelFault(f"{self.code.name}: {gpu.where_threads_are(self.code)}")
            if watcher and watch and (found := watcher.report(gpu.state, self._arrays)):
                raise KernelFault(f"{self.code.name}: {found}")

    def _words(self, grid: tuple[int, int, int], is_reversed: bool, block: int) -> dict[int, int]:
        return {
            layout.GROUPS_X: grid[0], layout.GROUPS_Y: grid[1], layout.GROUPS_Z: grid[2],
            layout.ARGUMENTS: block, layout.N_THREADS: self.code.threads,
            layout.REVERSED: is_reversed, layout.RUN_THREAD: self._thread,
            layout.RUN_FIBER: self._fiber, layout.POISON: self._poison if self.code.shared else 0,
            layout.USES_FIBERS: bool(self.code.sites), layout.BAD_BYTES: 0,
            layout.ARRAYS: self._arrays.ctypes.data, layout.N_ARRAYS: len(self._arrays),
        }  # fmt: skip


@cache
def _load(name: str, data: bytes) -> tuple[int, ...]:
    """Load an object file, once in a process; returns where its functions are."""
    return jit.load(data, *(f"{name}:{entry}" for entry in gpu_host.ENTRIES))


def _in_order(pieces: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.ascontiguousarray(pieces[np.argsort(pieces[:, layout.START])])


class _Gpu:
    """The memory of a simulated GPU, and the functions that its threads change over with."""

    def __init__(self) -> None:
        self.state = np.zeros(layout.STATE_WORDS, np.int64)
        self._records = np.zeros((layout.MAX_THREADS, layout.RECORD_WORDS), np.int64)
        self._scratch = np.zeros(2 * layout.HALF_BYTES, np.uint8)
        self._spare = np.full(2 * layout.SPARE_BYTES, 0xFF, np.uint8)
        self._stacks = np.empty(layout.MAX_THREADS * STACK_BYTES + 64, np.uint8)
        self.address, self.place = self.state.ctypes.data, jit.address("fibers", "place")
        self.run_groups = jit.function("fibers", "run_groups")
        (switch,) = jit.load(gpu_stacks.switch_object(), gpu_stacks.SWITCH)
        processor = levels.processor(levels.current())
        frame_bytes, frame_start = gpu_stacks.FRAMES[processor]
        self.set({
            layout.RECORDS: self._records.ctypes.data, layout.SCRATCH: self._scratch.ctypes.data,
            layout.STACKS: -(-self._stacks.ctypes.data // 64) * 64,
            layout.STACK_BYTES: STACK_BYTES, layout.FRAME_BYTES: frame_bytes,
            layout.FRAME_START: frame_start, layout.SWITCH: switch,
            layout.ADVANCE: jit.address("fibers", "advance"), layout.EXP2: _exp2(),
            layout.SPARE: -(-self._spare.ctypes.data // 64) * 64,
        })  # fmt: skip

    def set(self, words: dict[int, int]) -> None:
        """Set words of the state."""
        self.state[list(words)] = list(words.values())

    def bad_access(self, tables: dict[int, npt.NDArray[np.int64]]) -> str:
        """Say what the first bad access was, if there was one."""
        n, at, thread, *group, table = self.state[layout.BAD_BYTES :][:7].tolist()
        if not n:
            return ""
        self._spare[:] = 0xFF
        pieces = tables[table]
        where = "is not aligned"
        if at % (n & -n) == 0:
            behind, before = at - pieces[:, layout.END], pieces[:, layout.START] - at
            places = [
                (int(min(d[d >= 0], default=1 << 62)), side)
                for d, side in ((behind, "behind the end"), (before, "before the start"))
            ]
            where = "is {} bytes {} of a piece of memory".format(*min(places))
            if np.any((before <= 0) & (behind < 0)):
                where = "reaches over the end of a piece of memory"
        group_text = ", ".join(map(str, group))
        return f"thread {thread} of workgroup ({group_text}) touches {n} bytes where it {where}"

    def where_threads_are(self, code: Code) -> str:
        """Say what the threads of the current workgroup wait for."""
        x, y, z = (int(self.state[w]) for w in (layout.GROUP_X, layout.GROUP_Y, layout.GROUP_Z))
        records = self._records[: code.threads]
        parts, first = list[str](), 0
        changes = np.any(np.diff(records[:, [layout.KIND, layout.SITE]], axis=0), axis=1)
        for end in [*(np.flatnonzero(changes) + 1).tolist(), code.threads]:
            kind, site = (int(records[first, word]) for word in (layout.KIND, layout.SITE))
            where = f" at call {site} (in {code.sites[site]})" if kind != layout.ENDED else ""
            parts.append(f"{first} to {end - 1}: {_WAITS[kind]}{where}")
            first = end
        return f"threads of workgroup ({x}, {y}, {z}) went apart; {'; '.join(parts[:8])}"


@cache
def _gpu() -> _Gpu:
    return _Gpu()


def _exp2() -> int:
    """Return where the C library's `exp2f` is."""
    library: Any = ctypes.CDLL(ctypes.util.find_library("m") or None)
    return int(ctypes.cast(library.exp2f, ctypes.c_void_p).value or 0)


def packed(parameters: str, values: list[Any]) -> bytes:
    """Return values as the arguments of a kernel with these parameters."""
    kinds: dict[str, npt.DTypeLike] = {"A": np.uint64, "U": np.uint32, "F": np.float32}
    return b"".join(
        np.array(value, kinds[letter]).tobytes()
        for letter, value in zip(parameters, values, strict=True)
    )
