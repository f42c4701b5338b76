"""The CPU backend: packed weights, compiled kernels, a flat list of ops on a pool of threads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.memory import CpuPool, CpuStates, PackedWeight, pack_matrix, vector
from jitllm.backends._cpu.program import CpuProgram
from jitllm.backends._cpu.rules import CpuRules
from jitllm.backends._cpu.threads import ThreadPool, aligned, checked_threads
from jitllm.backends.base import (
    Backend,
    BackendUnavailable,
    Floats,
    Pool,
    Program,
    StatePool,
    Weight,
    options_error,
)
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.backends.rules import ByteRules
from jitllm.kernels import abi, formats
from jitllm.kernels import level as levels

PRECISIONS = ("fast", "exact")


def open(n_threads: int | None = None, precision: str = "fast", **options: Any) -> Backend:
    """Open the CPU.

    Parameters
    ----------
    n_threads : int or None
        Threads that compute; None means all this process may use.
    precision : str
        "fast" quantizes activations to int8 where weights are quantized; "exact" keeps float32.
    """
    _check(precision, options)
    return CpuBackend(ThreadPool(n_threads), precision)


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    _check(precision, options)
    return CpuRules(checked_threads(n_threads), precision)


def _check(precision: str, options: dict[str, Any]) -> None:
    if options:
        raise options_error("cpu", options)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")


class CpuBackend(Backend):
    """One model on this machine's processor."""

    name = "cpu"

    def __init__(self, threads: ThreadPool, precision: str) -> None:
        self.threads, self.precision = threads, precision
        self.weights: dict[str, PackedWeight] = {}
        self.vectors: dict[str, Floats] = {}
        self._pools: list[CpuPool] = []
        self._states = CpuStates((), 0)
        self._programs: list[CpuProgram] = []
        n, level = threads.n_threads, levels.current()
        self.description = f"{n} thread{'s' * (n > 1)}, machine level {level.name}"

    def add_weight(self, weight: Weight) -> None:
        """Pack a matrix, or keep a vector as float32; gives the file's pages back."""
        if weight.type_name not in formats.names():
            raise BackendUnavailable(
                f"tensor {weight.name!r} has type {weight.type_name}, which kernels/formats lacks; "
                f"it has {formats.names()}"
            )
        if len(weight.shape) == 1:
            self.vectors[weight.name] = vector(weight)
        else:
            self.weights[weight.name] = self._pack(weight)
        weight.release()

    def _pack(self, weight: Weight) -> PackedWeight:
        target, data = PackedWeight(weight), np.ascontiguousarray(weight.data).reshape(-1)
        step = data.nbytes // target.n_matrices
        for i in range(target.n_matrices):
            source, at = data.ctypes.data + i * step, target.address + i * target.matrix_bytes
            pack_matrix(self.threads, weight.type_name, (target.n, target.k), source, at)
        return target

    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Reserve a cache; memory is taken as pages are used."""
        self._pools = [pool for pool in self._pools if pool.n_pages]
        self._pools.append(CpuPool(spec, n_pages, kv_dtype))
        return self._pools[-1]

    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Reserve the states of a graph; memory is taken as slots are used."""
        self._states = CpuStates(sizes, n_slots)
        return self._states

    def compile(
        self, graph: Graph, pools: Sequence[Pool], *, max_tokens: int, taps: frozenset[str]
    ) -> Program:
        """Plan the graph; compiles the kernels it needs that are not in the cache."""
        cpu_pools = [pool for pool in pools if isinstance(pool, CpuPool)]
        if [pool.spec for pool in cpu_pools] != list(graph.caches):
            raise ValueError(f"expected pools for {graph.caches}, got {[p.spec for p in pools]}")
        patterns = {f"{n.name}.pattern" for n in graph.nodes if n.op == "attention"}
        unknown = taps - patterns - graph.values().keys()
        if unknown:
            raise ValueError(f"no such hook points in this graph: {sorted(unknown)}")
        run = aligned(8 * abi.RUN_WORDS).view(np.int64)
        lowering = Lowering(
            graph, self.weights, self.vectors, cpu_pools, self._states,
            exact=self.precision == "exact", max_tokens=max_tokens,
            n_threads=self.threads.n_threads, taps=taps, run=run.ctypes.data,
        )  # fmt: skip
        program = CpuProgram(graph, lowering, run, self.threads, max_tokens)
        self._programs = [p for p in self._programs if not p.closed] + [program]
        return program

    def memory(self) -> dict[str, int]:
        """Return bytes held, by purpose; caches and buffers count what is reserved."""
        weights = sum(w.n_bytes for w in self.weights.values())
        return {
            "weights": weights + sum(v.nbytes for v in self.vectors.values()),
            "caches": sum(pool.page_bytes * pool.n_pages for pool in self._pools)
            + self._states.memory.nbytes,
            "buffers": sum(program.n_bytes for program in self._programs),
        }

    def close(self) -> None:
        """Free programs, caches and weights, and stop the threads."""
        for program in self._programs:
            program.close()
        for pool in self._pools:
            pool.close()
        self._states.close()
        self._programs.clear()
        self._pools.clear()
        self.weights.clear()
        self.vectors.clear()
        self.threads.close()
