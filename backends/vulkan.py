"""The Vulkan backend: SPIR-V kernels on any device with a Vulkan driver.

Weights stay as they are in the file. All sums are float32, so the two precisions are one.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from jitllm.backends._vulkan_host import Device
from jitllm.backends._vulkan_lower import Lowering
from jitllm.backends._vulkan_memory import (
    Matrix,
    VulkanPool,
    VulkanStates,
    stored_type,
    upload_matrix,
)
from jitllm.backends._vulkan_program import VulkanProgram
from jitllm.backends._vulkan_rules import VulkanRules, check_type
from jitllm.backends.base import (
    Backend,
    Floats,
    Pool,
    Program,
    StatePool,
    Weight,
    options_error,
)
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.backends.rules import ByteRules
from jitllm.kernels import formats

_PRECISIONS = ("fast", "exact")
_log = logging.getLogger("jitllm.vulkan")


def open(n_threads: int | None = None, precision: str = "fast", **options: Any) -> Backend:
    """Open the best Vulkan device, or the one that JITLLM_VULKAN_DEVICE is a part of the name of.

    Parameters
    ----------
    n_threads : int or None
        Changes nothing: the driver decides.
    precision : str
        "fast" or "exact"; both compute in float32.

    Raises
    ------
    BackendUnavailable
        If the library was not built, or there is no loader, driver or fitting device.
    """
    _check(precision, options)
    return VulkanBackend(Device())


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    _check(precision, options)
    return VulkanRules()


def _check(precision: str, options: dict[str, Any]) -> None:
    if options:
        raise options_error("vulkan", options)
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be one of {_PRECISIONS}, got {precision!r}")


class VulkanBackend(Backend):
    """One model on a Vulkan device."""

    name = "vulkan"

    def __init__(self, device: Device) -> None:
        self.device = device
        self.weights: dict[str, Matrix] = {}
        self.vectors: dict[str, Floats] = {}
        self._converted: set[str] = set()
        self._pools: list[VulkanPool] = []
        self._states: VulkanStates | None = None
        self._programs: list[VulkanProgram] = []
        _log.info("device: %s", device.name)

    def add_weight(self, weight: Weight) -> None:
        """Copy a matrix to the device, or keep a vector as float32; gives the file's pages back."""
        check_type(weight.name, weight.type_name)
        if len(weight.shape) == 1:
            values = formats.dequantize(weight.type_name, weight.data, weight.shape)
            self.vectors[weight.name] = np.array(values, np.float32)
        else:
            self._say_conversion(weight.type_name)
            self.weights[weight.name] = upload_matrix(self.device, weight)
        weight.release()

    def _say_conversion(self, type_name: str) -> None:
        if stored_type(type_name) != type_name and type_name not in self._converted:
            self._converted.add(type_name)
            _log.warning(
                "no Vulkan shader reads %s: such weights become float16, which takes more memory",
                type_name,
            )

    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Allocate a cache."""
        pool = VulkanPool(self.device, spec, n_pages, kv_dtype)
        self._pools.append(pool)
        return pool

    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Allocate the states of a graph."""
        if self._states:
            self._states.close()
        self._states = VulkanStates(self.device, sizes, n_slots)
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
        own = [pool for pool in pools if isinstance(pool, VulkanPool)]
        lowering = Lowering(
            graph, self.weights, self.vectors, own, max_tokens=max_tokens, taps=taps
        )
        lowering.lower()
        program = VulkanProgram(self.device, lowering)
        self._programs = [p for p in self._programs if not p.closed] + [program]
        return program

    def memory(self) -> dict[str, int]:
        """Return bytes held, by purpose."""
        weights = sum(w.n_bytes for w in self.weights.values())
        states = self._states.slot_bytes * self._states.n_slots if self._states else 0
        return {
            "weights": weights + sum(v.nbytes for v in self.vectors.values()),
            "caches": sum(pool.page_bytes * pool.n_pages for pool in self._pools) + states,
            "buffers": sum(program.n_bytes for program in self._programs),
        }

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
