"""One model on a GPU: what the backends of Vulkan, Metal and CUDA share."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitllm.backends._gpu.device import Device, Kernels
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends._gpu.memory import GpuPool, GpuStates, Matrix, stored_type, upload_matrix
from jitllm.backends._gpu.program import GpuProgram
from jitllm.backends._gpu.rules import check_type
from jitllm.backends.base import (
    Backend,
    DeviceMemory,
    Floats,
    Pool,
    Program,
    StatePool,
    Weight,
    options_error,
)
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.kernels import formats

PRECISIONS = ("fast", "exact")


def check_options(backend: str, precision: str, options: dict[str, Any]) -> None:
    """Raise `TypeError` or `ValueError` for options of `open` that no GPU backend takes."""
    if options:
        raise options_error(backend, options)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")


class GpuBackend(Backend):
    """One model on a GPU; matrices have their rows as in the file.

    Parameters
    ----------
    device : Device
    kernels : Kernels
    """

    holds_pools = True

    def __init__(self, device: Device, kernels: Kernels) -> None:
        self.name, self.device, self.kernels = kernels.backend, device, kernels
        self.weights: dict[str, Matrix] = {}
        self.vectors: dict[str, Floats] = {}
        self._converted: set[str] = set()
        self._pools: list[GpuPool] = []
        self._states: GpuStates | None = None
        self._programs: list[GpuProgram] = []
        self._log = logging.getLogger(f"jitllm.{self.name}")
        self.description = device.name
        self._log.info("device: %s", device.name)

    def add_weight(self, weight: Weight) -> None:
        """Copy a matrix to the device, or keep a vector as float32; gives the file's pages back."""
        check_type(weight.name, weight.type_name)
        if len(weight.shape) == 1:
            values = formats.dequantize(weight.type_name, weight.data, weight.shape)
            self.vectors[weight.name] = np.array(values, np.float32)
        else:
            before, new = self.weights.get(weight.name), self.upload(weight)
            self.weights[weight.name] = new
            if before and before.memory:
                before.memory.free()
        weight.release()

    def upload(self, weight: Weight) -> Matrix:
        """Return a matrix on the device, in the layout that kernels read."""
        kind = weight.type_name
        stored = stored_type(self.kernels, kind)
        if stored != kind and kind not in self._converted:
            self._converted.add(kind)
            self._log.warning(
                "no kernel of the %s backend reads %s: such weights become %s, which takes more "
                "memory", self.name, kind, stored,
            )  # fmt: skip
        return upload_matrix(self.device, weight, stored)

    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Allocate a cache."""
        pool = GpuPool(self.device, spec, n_pages, kv_dtype)
        self._pools.append(pool)
        return pool

    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Allocate the states of a graph."""
        if self._states:
            self._states.close()
        self._states = GpuStates(self.device, sizes, n_slots)
        return self._states

    def compile(
        self, graph: Graph, pools: Sequence[Pool], *, max_tokens: int, taps: frozenset[str]
    ) -> Program:
        """Lower the graph; `BackendUnavailable` names an operation that is missing."""
        if [pool.spec for pool in pools] != list(graph.caches):
            raise ValueError(f"expected pools for {graph.caches}, got {[p.spec for p in pools]}")
        unknown = taps - graph.taps()
        if unknown:
            raise ValueError(f"no such hook points in this graph: {sorted(unknown)}")
        for node in graph.nodes:
            missing = [w for w in node.weights if w and w not in self.weights | self.vectors]
            if missing:
                raise ValueError(f"node {node.name!r}: weights {missing} were not added")
        own = [pool for pool in pools if isinstance(pool, GpuPool)]
        lowering = self.lowering(
            graph, self.weights, self.vectors, own, max_tokens=max_tokens, taps=taps,
            states=self._states,
        )  # fmt: skip
        lowering.lower()
        program = GpuProgram(self.device, lowering)
        self._programs = [p for p in self._programs if not p.closed] + [program]
        return program

    def lowering(self, *arguments: Any, **options: Any) -> Lowering:
        """Return what lowers a graph; the arguments are those of `Lowering` after the kernels."""
        return Lowering(self.kernels, *arguments, **options)

    def memory(self) -> dict[str, int]:
        """Return bytes held on the device, by purpose; vectors are constants among the buffers."""
        states = self._states.slot_bytes * self._states.n_slots if self._states else 0
        return {
            "weights": sum(w.n_bytes for w in self.weights.values()),
            "caches": sum(pool.page_bytes * pool.n_pages for pool in self._pools) + states,
            "buffers": sum(program.n_bytes for program in self._programs),
        }

    def device_memory(self) -> DeviceMemory:
        """Return the memory of the device."""
        return self.device.memory()

    def close(self) -> None:
        """Free programs, caches and weights, and the device."""
        for program in self._programs:
            program.close()
        for pool in self._pools:
            pool.close()
        if self._states:
            self._states.close()
        for matrix in self.weights.values():
            if matrix.memory:
                matrix.memory.free()
        for mapping in (self.weights, self.vectors):
            mapping.clear()
        self._programs.clear()
        self._pools.clear()
        self._states = None
        self.device.close()
