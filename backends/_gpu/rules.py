"""What a GPU backend takes, without a device: the same lowering, on sizes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jitllm.backends._gpu.device import Kernels, whole_words
from jitllm.backends._gpu.lower import Lowering
from jitllm.backends._gpu.memory import GpuPool, Matrix, stored_type
from jitllm.backends.base import PAGE_TOKENS, BackendUnavailable
from jitllm.backends.ir import Graph
from jitllm.backends.rules import ByteRules, LayerSizes, PoolSizes, TensorShape
from jitllm.kernels import formats
from jitllm.kernels.cache_types import cell_bytes


def check_type(tensor: str, type_name: str) -> None:
    """Raise `BackendUnavailable` if nothing reads a tensor type."""
    if type_name not in formats.names():
        raise BackendUnavailable(
            f"tensor {tensor!r} has type {type_name}, which kernels/formats lacks; "
            f"it has {formats.names()}"
        )


class GpuRules(ByteRules):
    """Bytes on a GPU where matrices have their rows as in the file.

    Parameters
    ----------
    kernels : Kernels
    """

    holds_pools = True

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def weight_bytes(self, tensor: TensorShape) -> int:
        """Return the bytes of a matrix on the device; vectors are constants of programs."""
        check_type(tensor.name, tensor.type_name)
        return self.matrix(tensor).n_bytes if len(tensor.shape) > 1 else 0

    def page_bytes(self, layer: LayerSizes, kv_dtype: str) -> int:
        """Return the bytes of one page of one layer of a cache."""
        return PAGE_TOKENS * cell_bytes(kv_dtype, [layer])

    def state_bytes(self, size: int) -> int:
        """Return the bytes of a state of float32."""
        return 4 * size

    def buffer_bytes(
        self, graph: Graph, tensors: Mapping[str, TensorShape], pools: PoolSizes, max_tokens: int
    ) -> int:
        """Return what a program takes until more than `most_outputs` rows are wanted."""
        shapes = tensors.items()
        lowering = self.lowering(
            graph,
            {name: self.matrix(tensor) for name, tensor in shapes if len(tensor.shape) > 1},
            {name: np.zeros(tensor.shape, np.float32) for name, tensor in shapes
             if len(tensor.shape) == 1},
            [GpuPool(None, spec, n_pages, pools.kv_dtype)
             for spec, n_pages in zip(graph.caches, pools.pages, strict=True)],
            max_tokens=max_tokens, taps=frozenset(),
        )  # fmt: skip
        lowering.lower()
        return sum(map(whole_words, lowering.space_bytes().values()))

    def matrix(self, tensor: TensorShape) -> Matrix:
        """Return a matrix that has sizes only."""
        return Matrix(None, stored_type(self.kernels, tensor.type_name), tensor.shape)

    def lowering(self, *arguments: Any, **options: Any) -> Lowering:
        """Return what lowers a graph; the arguments are those of `Lowering` after the kernels."""
        return Lowering(self.kernels, *arguments, **options)
