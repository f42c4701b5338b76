"""What the CPU backend takes, without taking it: the same lowering, on sizes instead of memory."""

from collections.abc import Mapping
from math import prod

import numpy as np

from jitllm.backends._cpu.lower import Lowering
from jitllm.backends._cpu.memory import CpuPool, CpuStates, PackedShape, state_bytes, vector_bytes
from jitllm.backends.base import PAGE_TOKENS, BackendUnavailable
from jitllm.backends.ir import Graph
from jitllm.backends.rules import ByteRules, LayerSizes, PoolSizes, TensorShape
from jitllm.kernels import formats
from jitllm.kernels.cache_types import cell_bytes


class CpuRules(ByteRules):
    """Bytes on this machine's processor; see `jitllm.backends.cpu.open`."""

    def __init__(self, n_threads: int, precision: str) -> None:
        self.n_threads, self.precision = n_threads, precision

    def weight_bytes(self, tensor: TensorShape) -> int:
        """Return the bytes of a packed matrix, or of a vector of float32."""
        if tensor.type_name not in formats.names():
            raise BackendUnavailable(
                f"tensor {tensor.name!r} has type {tensor.type_name}, which kernels/formats lacks; "
                f"it has {formats.names()}"
            )
        if len(tensor.shape) == 1:
            return vector_bytes(prod(tensor.shape))
        return PackedShape(tensor.type_name, tensor.shape).n_bytes

    def page_bytes(self, layer: LayerSizes, kv_dtype: str) -> int:
        """Return the bytes of one page of one layer of a cache."""
        return PAGE_TOKENS * cell_bytes(kv_dtype, [layer])

    def state_bytes(self, size: int) -> int:
        """Return the bytes of one state: whole cache lines."""
        return state_bytes(size)

    def buffer_bytes(
        self, graph: Graph, tensors: Mapping[str, TensorShape], pools: PoolSizes, max_tokens: int
    ) -> int:
        """Return what a program's plan and all that its ops point to will take."""
        matrices = {
            name: PackedShape(tensor.type_name, tensor.shape)
            for name, tensor in tensors.items() if len(tensor.shape) > 1
        }  # fmt: skip
        lowering = Lowering(
            graph, matrices, dict.fromkeys(tensors, np.empty(0, np.float32)),
            [CpuPool(spec, n_pages, pools.kv_dtype, has_memory=False)
             for spec, n_pages in zip(graph.caches, pools.pages, strict=True)],
            CpuStates(graph.states, pools.n_slots, has_memory=False),
            exact=self.precision == "exact", max_tokens=max_tokens, n_threads=self.n_threads,
            taps=frozenset(), run=0,
        )  # fmt: skip
        lowering.lower()
        return lowering.planner.n_bytes + lowering.kept_bytes
