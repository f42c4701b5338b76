"""The bytes of one model on its devices, from its file's header."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from jitllm import backends
from jitllm.backends._split.graph import NO_TYPE, Homes, cut, node_devices, readers, used_devices
from jitllm.backends.base import BackendUnavailable
from jitllm.backends.ir import Graph
from jitllm.backends.placement import CPU, Placement
from jitllm.backends.rules import ByteRules, PoolSizes, TensorShape
from jitllm.kernels.cache_types import spelled
from jitllm.llm import models
from jitllm.llm.config import Metadata, ModelConfig
from jitllm.llm.errors import BackendError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.models.loading import build_graph, count_layers, weight_shapes
from jitllm.llm.placing import Placing
from jitllm.llm.state.budget import Sizes, bytes_of, sizes_within
from jitllm.llm.state.reserve import Reserve, run_rows


@dataclass(frozen=True)
class PlanSettings(Placing):
    """How a model would be loaded; `jitllm.plan` says what each of them is."""

    n_ctx: int = 0
    n_threads: int | None = None
    kv_dtype: str = "f16"
    precision: str = "fast"
    cache_bytes: int | None = None
    n_sequences: int = 1

    @property
    def placing(self) -> Placing:
        """Devices and parts alone."""
        return Placing(**self.arguments())


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
        What loading reserves for cells and states.
    holds_pool : bool
        Whether the device takes this memory at once, as GPUs do; elsewhere it costs memory where it
        is written to.
    """

    device: str
    weights: int = 0
    caches: int = 0
    compute: int = 0
    pool: int = 0
    holds_pool: bool = False

    @property
    def reserve(self) -> int:
        """Bytes of `pool` that are left for further sequences."""
        return max(0, self.pool - self.caches)

    @property
    def total(self) -> int:
        """Bytes in use when all planned sequences are full."""
        return self.weights + self.held + self.compute

    @property
    def held(self) -> int:
        """Bytes of `caches`, and of all of `pool` where the device takes it at once."""
        return max(self.caches, self.pool) if self.holds_pool else self.caches


@dataclass(frozen=True)
class _Built:
    """A graph for a context length, and what is reserved for it."""

    graph: Graph
    tensors: Mapping[str, TensorShape]
    needed: Sizes
    pools: Sizes
    cache_bytes: int | None


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
        self._graph = functools.lru_cache(maxsize=64)(self._new_graph)
        self._compute = functools.lru_cache(maxsize=64)(self._buffers)

    @property
    def name(self) -> str:
        """Of the model, or its file's where it has none."""
        return str(self.file.metadata.get("general.name", "") or self.file.paths[0].stem)

    @functools.cached_property
    def n_layers(self) -> int:
        """All layers of the file, blocks that predict further tokens included."""
        return count_layers(self.file, self.config)

    def cache_bytes(self, n_ctx: int) -> int | None:
        """Return the `cache_bytes` that `jitllm.load` needs for these pools."""
        return self._built(n_ctx, False).cache_bytes

    def shares(self, n_ctx: int, placement: Placement) -> tuple[Share, ...]:
        """Return what each device holds, the CPU last where it is not the only one.

        Raises
        ------
        BackendError
            If a device lacks a tensor type or an operation.
        """
        used = used_devices([self._graph(n_ctx)], placement)
        built = self._built_on(n_ctx, used)
        try:
            weights = self._weights(built, placement)
            caches, pool = self._caches(built, placement)
            compute = self._compute(n_ctx, placement)
        except BackendUnavailable as error:
            raise BackendError(str(error)) from error
        names = dict.fromkeys([*self.settings.devices, CPU])
        return tuple(
            Share(name, weights[name], caches[name], compute[name], pool[name],
                  self._rules[name].holds_pools)
            for name in names if name in used
        )  # fmt: skip

    def _build(self, n_ctx: int, is_held: bool) -> _Built:
        graph = self._graph(n_ctx)
        tensors = {shape.name: shape for shape in weight_shapes(self.file, graph)}
        reserve = Reserve.of(graph, n_ctx, self.kv_dtype, is_held)
        needed = self._needed(graph, reserve, n_ctx)
        n_bytes = bytes_of(needed, graph, self.kv_dtype)
        cache_bytes = n_bytes if self._is_tight else self.settings.cache_bytes
        pools = sizes_within(cache_bytes, graph, reserve, self.kv_dtype, n_ctx)
        return _Built(graph, tensors, needed, pools, cache_bytes)

    def _new_graph(self, n_ctx: int) -> Graph:
        return build_graph(self.file, self.config, n_ctx)[0]

    def _built_on(self, n_ctx: int, used: Iterable[str]) -> _Built:
        return self._built(n_ctx, any(self._rules[name].holds_pools for name in used))

    def _needed(self, graph: Graph, reserve: Reserve, n_ctx: int) -> Sizes:
        """Pages and slots of the planned sequences when they are full."""
        n = self.settings.n_sequences
        pages = tuple(n * reserve.pages_used(spec, n_ctx) for spec in graph.caches)
        return Sizes(pages, n * reserve.slots_used)

    def _weights(self, built: _Built, placement: Placement) -> Counter[str]:
        """Bytes of weights by device; one that several devices read is on each of them."""
        total = Counter[str]()
        for name, devices in readers([built.graph], placement).items():
            for device in devices:
                total[device] += self._rules[device].weight_bytes(built.tensors[name])
        return total

    def _caches(self, built: _Built, placement: Placement) -> tuple[Counter[str], Counter[str]]:
        """Bytes of cells and states by device: of the planned sequences, and reserved."""
        used, pool, graph = Counter[str](), Counter[str](), built.graph
        needed, pools, homes = built.needed, built.pools, Homes.of(graph, placement)
        for c, spec in enumerate(graph.caches):
            for device, layer in zip(homes.caches[c], spec.layers, strict=True):
                page_bytes = self._rules[device].page_bytes(layer, self.kv_dtype)
                used[device] += needed.pages[c] * page_bytes
                pool[device] += pools.pages[c] * page_bytes
        for device, size in zip(homes.states, graph.states, strict=True):
            slot_bytes = self._rules[device].state_bytes(size)
            used[device] += needed.slots * slot_bytes
            pool[device] += pools.slots * slot_bytes
        return used, pool

    def _buffers(self, n_ctx: int, placement: Placement) -> Counter[str]:
        """Bytes of programs by device, and on the CPU of rows that cross from one to another."""
        total, used = Counter[str](), used_devices([self._graph(n_ctx)], placement)
        built = self._built_on(n_ctx, used)
        homes, read = Homes.of(built.graph, placement), readers([built.graph], placement)
        for graph in filter(None, (built.graph, built.graph.encoder)):
            rows = run_rows(graph, n_ctx)
            made = cut(graph, node_devices(graph, placement, homes), homes)
            for device, part in made.parts.items():
                own = {name: built.tensors[name] for name in read if device in read[name]}
                has_cells = any(device in layers for layers in homes.caches)
                kind = self.kv_dtype if has_cells else NO_TYPE
                pools = PoolSizes(built.pools.pages, kind, built.pools.slots)
                total[device] += self._rules[device].buffer_bytes(part.graph, own, pools, rows)
            total[CPU] += made.row_bytes * rows
        return total

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
            device, n_threads=settings.n_threads, precision=settings.precision
        )
    except BackendUnavailable as error:
        raise BackendError(str(error)) from error
