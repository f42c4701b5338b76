"""The bytes of one model on its devices, from its file's header."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jitllm import backends
from jitllm.backends.base import BackendUnavailable
from jitllm.backends.ir import Graph
from jitllm.backends.placement import CPU, Placement, layer_of, place
from jitllm.backends.rules import ByteRules, PoolSizes, TensorShape
from jitllm.kernels.cache_types import spelled
from jitllm.llm import models
from jitllm.llm.config import Metadata, ModelConfig
from jitllm.llm.errors import BackendError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import build_graph, weight_shapes
from jitllm.llm.state.budget import Sizes, bytes_of, sizes_within
from jitllm.llm.state.reserve import Reserve, run_rows

_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class PlanSettings:
    """How a model would be loaded; `jitllm.plan` says what each of them is."""

    device: str | Sequence[str] = CPU
    n_ctx: int = 0
    n_gpu_layers: int | str | None = None
    n_threads: int | None = None
    kv_dtype: str = "f16"
    precision: str = "fast"
    cache_bytes: int | None = None
    n_sequences: int = 1
    split: Sequence[float] | None = None
    overrides: Sequence[tuple[str, str]] | Mapping[str, str] = ()
    cpu_moe: bool = False
    n_cpu_moe: int = 0
    n_cpu_ffn: int = 0
    offload_kv: bool = True

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that were asked for."""
        return (self.device,) if isinstance(self.device, str) else tuple(self.device)


@dataclass(frozen=True)
class Share:
    """What one device holds of a model, in bytes.

    Attributes
    ----------
    device : str
    weights : int
    caches : int
        Cells and states of the sequences that were planned for, all of them full.
    compute : int
        Programs: values of a run, scratch memory, constants.
    pool : int
        What loading reserves for cells and states; it costs memory where it is written to.
    """

    device: str
    weights: int = 0
    caches: int = 0
    compute: int = 0
    pool: int = 0

    @property
    def reserve(self) -> int:
        """Bytes of `pool` that are left for further sequences."""
        return max(0, self.pool - self.caches)

    @property
    def total(self) -> int:
        """Bytes in use when all planned sequences are full."""
        return self.weights + self.caches + self.compute


@dataclass(frozen=True)
class _Built:
    """A graph for a context length, and what is reserved for it.

    `homes` are the nodes that keep each layer of each cache, `state_homes` those of states.
    """

    graph: Graph
    tensors: Mapping[str, TensorShape]
    needed: Sizes
    pools: Sizes
    cache_bytes: int | None
    homes: Mapping[tuple[int, int], str]
    state_homes: Mapping[int, str]


class ModelSizes:
    """A model's file, open to be planned for; a context manager.

    Parameters
    ----------
    path : Path
    settings : PlanSettings
    is_tight : bool
        Reserve cells and states for the planned sequences alone, by `cache_bytes` of their size,
        unless the settings have some.

    Raises
    ------
    ModelFormatError, UnsupportedArchitecture
        As `jitllm.load` does.
    BackendError
        If a device has no byte rules.
    ValueError
        If a setting is none of what it may be.
    """

    def __init__(self, path: Path, settings: PlanSettings, *, is_tight: bool = False) -> None:
        self.settings, self.kv_dtype = settings, spelled(settings.kv_dtype)
        self._is_tight = is_tight and settings.cache_bytes is None
        self._rules = {name: _rules_of(name, settings) for name in (*settings.devices, CPU)}
        self.file = GGUFFile(path)
        try:
            models.get(Metadata(self.file.metadata, "general").get("architecture", str))
            self.config = ModelConfig.from_file(self.file)
        except BaseException:
            self.file.close()
            raise
        self._built = functools.lru_cache(maxsize=64)(self._build)
        self._compute = functools.lru_cache(maxsize=64)(self._buffers)

    @property
    def name(self) -> str:
        """Of the model, or its file's where it has none."""
        return str(self.file.metadata.get("general.name", "") or self.file.paths[0].stem)

    @functools.cached_property
    def n_layers(self) -> int:
        """All layers of the file, blocks that predict further tokens included."""
        named = (layer_of(name) for name in self.file.tensors)  # a decoder may have more
        return max(self.config.num_hidden_layers, *(1 + i for i in named if i is not None), 1)

    @property
    def is_whole(self) -> bool:
        """Whether one device runs the model alone, as `jitllm.load` has it."""
        return self.settings.n_gpu_layers is None or self.settings.devices == (CPU,)

    def placement(self, n_gpu_layers: int) -> Placement:
        """Place the layers; the number counts where the model is not whole."""
        given = self.settings
        if self.is_whole:
            device = given.devices[0]
            layers = (device,) * self.n_layers
            return Placement(layers, device, layers, input=device)
        overrides = given.overrides
        pairs = overrides.items() if isinstance(overrides, Mapping) else overrides
        return place(
            self.n_layers, n_gpu_layers, given.devices, split=given.split, overrides=[*pairs],
            cpu_moe=given.cpu_moe, n_cpu_moe=given.n_cpu_moe, n_cpu_ffn=given.n_cpu_ffn,
            offload_kv=given.offload_kv,
        )  # fmt: skip

    def cache_bytes(self, n_ctx: int) -> int | None:
        """Return the `cache_bytes` that `jitllm.load` needs for these pools."""
        return self._built(n_ctx).cache_bytes

    def shares(self, n_ctx: int, placement: Placement) -> tuple[Share, ...]:
        """Return what each device holds, the CPU last where it is not the only one.

        Raises
        ------
        BackendError
            If a device lacks a tensor type or an operation.
        """
        built = self._built(n_ctx)
        try:
            weights = self._weights(built, placement)
            caches, pool = self._caches(built, placement)
            used = {*weights, *pool, *placement.layers, placement.output}
            names = dict.fromkeys([*self.settings.devices, CPU])
            return tuple(
                Share(name, weights.get(name, 0), caches.get(name, 0),
                      self._compute(name, n_ctx), pool.get(name, 0))
                for name in names if name in used
            )  # fmt: skip
        except BackendUnavailable as error:
            raise BackendError(str(error)) from error

    def _build(self, n_ctx: int) -> _Built:
        graph, _ = build_graph(self.file, self.config, n_ctx)
        tensors = {shape.name: shape for shape in weight_shapes(self.file, graph)}
        reserve = Reserve.of(graph, n_ctx, self.kv_dtype)
        homes, states = dict[tuple[int, int], str](), dict[int, str]()
        for node in graph.all_nodes:
            if node.attrs.get("cache", -1) >= 0:
                homes.setdefault((node.attrs["cache"], node.attrs["layer"]), node.name)
            if "state" in node.attrs:
                states.setdefault(node.attrs["state"], node.name)
        needed = self._needed(graph, reserve, n_ctx)
        n_bytes = bytes_of(needed, graph, self.kv_dtype)
        cache_bytes = n_bytes if self._is_tight else self.settings.cache_bytes
        pools = sizes_within(cache_bytes, graph, reserve, self.kv_dtype, n_ctx)
        return _Built(graph, tensors, needed, pools, cache_bytes, homes, states)

    def _needed(self, graph: Graph, reserve: Reserve, n_ctx: int) -> Sizes:
        """Pages and slots of the planned sequences when they are full."""
        n = self.settings.n_sequences
        pages = tuple(n * reserve.pages_used(spec, n_ctx) for spec in graph.caches)
        return Sizes(pages, n * reserve.slots_used)

    def _weights(self, built: _Built, placement: Placement) -> dict[str, int]:
        """Bytes of weights by device; an embedding that is the output too may be on both."""
        total: dict[str, int] = {}
        is_tied = any(node.op == "matmul" and _EMBEDDING in node.weights
                      for node in built.graph.nodes)  # fmt: skip
        for tensor in built.tensors.values():
            devices = {placement.device_of(tensor.name)}
            if is_tied and tensor.name == _EMBEDDING:
                devices.add(placement.device_of(tensor.name, as_output=True))
            for device in devices:
                n_bytes = self._rules[device].weight_bytes(tensor)
                total[device] = total.get(device, 0) + n_bytes
        return total

    def _caches(self, built: _Built, placement: Placement) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes of cells and states by device: of the planned sequences, and reserved."""
        used, pool = dict[str, int](), dict[str, int]()
        needed, pools = built.needed, built.pools

        def add(device: str, n_bytes: int, n_used: int, n_reserved: int) -> None:
            used[device] = used.get(device, 0) + n_used * n_bytes
            pool[device] = pool.get(device, 0) + n_reserved * n_bytes

        for c, spec in enumerate(built.graph.caches):
            for i, layer in enumerate(spec.layers):
                device = placement.cache_of(built.homes[c, i])
                page_bytes = self._rules[device].page_bytes(layer, self.kv_dtype)
                add(device, page_bytes, needed.pages[c], pools.pages[c])
        for i, size in enumerate(built.graph.states):
            device = placement.cache_of(built.state_homes[i])
            add(device, self._rules[device].state_bytes(size), needed.slots, pools.slots)
        return used, pool

    def _buffers(self, device: str, n_ctx: int) -> int:
        """Bytes of the programs of the whole graph, which suffice for a part of it."""
        built = self._built(n_ctx)
        graph, pools = built.graph, PoolSizes(built.pools.pages, self.kv_dtype, built.pools.slots)
        graphs = [graph, graph.encoder] if graph.encoder else [graph]
        return sum(
            self._rules[device].buffer_bytes(g, built.tensors, pools, run_rows(g, n_ctx))
            for g in graphs
        )

    def __enter__(self) -> "ModelSizes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.file.close()


def _rules_of(device: str, settings: PlanSettings) -> ByteRules:
    """Return the byte rules of a device such as "cpu", or "name:1" for the second of its kind."""
    try:
        return backends.byte_rules(
            device.partition(":")[0], n_threads=settings.n_threads, precision=settings.precision
        )
    except BackendUnavailable as error:
        raise BackendError(str(error)) from error
