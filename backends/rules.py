"""What a model takes on a device, told by sizes alone: the device need not be there.

A backend whose file has `rules(**options)`, with the options of its `open`, can be planned for.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jitllm.backends.ir import Graph

LayerSizes = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A tensor without its data; see `jitllm.backends.base.Weight`."""

    name: str
    type_name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """How much is reserved: pages of each cache, their type, and slots of states."""

    pages: tuple[int, ...]
    kv_dtype: str
    n_slots: int


class ByteRules(ABC):
    """The bytes of everything that a backend would allocate.

    They are those that the backend's `memory` tells afterwards. `holds_pools` is the backend's.
    """

    holds_pools = False

    @abstractmethod
    def weight_bytes(self, tensor: TensorShape) -> int:
        """Return the bytes of a weight in the device's layout.

        Raises
        ------
        BackendUnavailable
            If the device has no such type.
        """

    @abstractmethod
    def page_bytes(self, layer: LayerSizes, kv_dtype: str) -> int:
        """Return the bytes of one page of one layer (n_kv_heads, dk, dv) of a cache."""

    @abstractmethod
    def state_bytes(self, size: int) -> int:
        """Return the bytes of one state of `size` numbers in one slot."""

    @abstractmethod
    def buffer_bytes(
        self, graph: Graph, tensors: Mapping[str, TensorShape], pools: PoolSizes, max_tokens: int
    ) -> int:
        """Return the bytes of a program for runs of up to `max_tokens` rows, without taps.

        Parameters
        ----------
        graph : Graph
        tensors : mapping
            Those that the graph names.
        pools : PoolSizes
        max_tokens : int

        Raises
        ------
        BackendUnavailable
            If the device cannot run the graph.
        """
