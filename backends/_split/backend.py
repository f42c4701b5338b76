"""Several devices as one backend: each has a part of the model's layers."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

from jitllm.backends._split.graph import (
    NO_TYPE,
    Cut,
    Homes,
    cut,
    node_devices,
    readers,
    used_devices,
)
from jitllm.backends._split.memory import SplitPool, SplitStates
from jitllm.backends._split.program import SplitProgram
from jitllm.backends.base import Backend, BackendUnavailable, Pool, Program, StatePool, Weight
from jitllm.backends.ir import CacheSpec, Graph
from jitllm.backends.placement import CPU, Placement


class SplitBackend(Backend):
    """One model on several devices.

    Parameters
    ----------
    placement : Placement
    graphs : sequence of Graph
        Those that will run; others can too, with the caches and states of one of them.
    open_device : callable
        Opens the backend of a device by name.

    Raises
    ------
    BackendUnavailable
        If one of the devices is missing; those that were opened are closed.
    """

    def __init__(
        self,
        placement: Placement,
        graphs: Sequence[Graph],
        open_device: Callable[[str], Backend],
    ) -> None:
        self.placement, self._graphs = placement, tuple(graphs)
        self._readers = readers(self._graphs, placement)
        devices = used_devices(self._graphs, placement)
        self.name = "+".join(devices)
        self.devices: dict[str, Backend] = {}
        self._waiting: dict[str, Weight] = {}
        self._states: SplitStates | None = None
        self._programs: list[SplitProgram] = []
        try:
            for device in devices:
                self.devices[device] = open_device(device)
        except BaseException:
            self.close()
            raise

    @property
    def holds_pools(self) -> bool:  # type: ignore[override]
        """Whether one of the devices does."""
        return any(backend.holds_pools for backend in self.devices.values())

    def add_weight(self, weight: Weight) -> None:
        """Give a tensor to the devices whose nodes read it.

        One that no graph so far reads waits on the host for a graph that does.
        """
        if weight.name not in self._readers:
            self._waiting[weight.name] = weight
            return
        for device in sorted(self._readers[weight.name]):
            self.devices[device].add_weight(weight)

    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Allocate a cache: on each device its layers."""
        homes, index = self._homes(spec)
        with contextlib.ExitStack() as undo:
            pools = dict[str, Pool]()
            for device, backend in self.devices.items():
                part = homes.spec_on(device, index, spec)
                kind = kv_dtype if part.layers else NO_TYPE
                pools[device] = backend.new_pool(part, n_pages, kind)
                undo.callback(pools[device].close)
            undo.pop_all()
        return SplitPool(spec, homes.caches[index], kv_dtype, pools)

    def _homes(self, spec: CacheSpec) -> tuple[Homes, int]:
        """Return the homes of a graph and the number of the cache in it."""
        caches = [(g, i, own) for g in self._graphs for i, own in enumerate(g.caches)]
        same = [each for each in caches if each[2] is spec] or [e for e in caches if e[2] == spec]
        if not same:
            raise ValueError(f"expected a cache of this model's graphs, got {spec}")
        graph, index, _ = same[0]
        return Homes.of(graph, self.placement), index

    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Allocate the states of a graph: on each device those of its layers."""
        same = [g for g in self._graphs if g.states is sizes]
        same += [g for g in self._graphs if g.states == sizes]
        if not same:
            raise ValueError(f"expected states of this model's graphs, got {sizes}")
        homes, pools = Homes.of(same[0], self.placement), dict[str, StatePool]()
        with contextlib.ExitStack() as undo:
            for device, backend in self.devices.items():
                own = tuple(sizes[i] for i in homes.states_on(device))
                if own:
                    pools[device] = backend.new_states(own, n_slots)
                    undo.callback(pools[device].close)
            undo.pop_all()
        self._states = SplitStates(sizes, homes, n_slots, pools)
        return self._states

    def compile(
        self, graph: Graph, pools: Sequence[Pool], *, max_tokens: int, taps: frozenset[str]
    ) -> Program:
        """Cut the graph and compile its parts, each on its device."""
        own = [pool for pool in pools if isinstance(pool, SplitPool)]
        if [pool.spec for pool in own] != list(graph.caches):
            raise ValueError(f"expected pools for {graph.caches}, got {[p.spec for p in pools]}")
        unknown = taps - graph.taps()
        if unknown:
            raise ValueError(f"no such hook points in this graph: {sorted(unknown)}")
        states = self._states.homes if self._states else ()
        homes = Homes(tuple(pool.homes for pool in own), states)
        devices = node_devices(graph, self.placement, homes)
        self._place_waiting(graph, devices)
        return self._compile(cut(graph, devices, homes), own, max_tokens, taps)

    def _compile(
        self, made: Cut, pools: Sequence[SplitPool], max_tokens: int, taps: frozenset[str]
    ) -> Program:
        programs = dict[str, Program]()
        with contextlib.ExitStack() as undo:
            for device, part in made.parts.items():
                wanted = frozenset({*part.exports, *part.imports}) | (taps & part.graph.taps())
                programs[device] = self.devices[device].compile(
                    part.graph, [pool.pools[device] for pool in pools], max_tokens=max_tokens,
                    taps=wanted,
                )  # fmt: skip
                undo.callback(programs[device].close)
                if type(programs[device]).steps is Program.steps:
                    raise BackendUnavailable(
                        f"device {device!r} runs whole models only: its programs have no `steps`"
                    )
            program = SplitProgram(made, programs, max_tokens)
            undo.pop_all()
        self._programs = [p for p in self._programs if not p.closed] + [program]
        return program

    def _place_waiting(self, graph: Graph, devices: Mapping[str, str]) -> None:
        """Give weights that waited to the devices whose nodes read them."""
        for node in graph.nodes:
            for name in node.tensors:
                if name in self._waiting:
                    self._readers.setdefault(name, set()).add(devices[node.name])
        for name in self._waiting.keys() & self._readers.keys():
            self.add_weight(self._waiting.pop(name))

    def memory(self) -> dict[str, int]:
        """Return bytes held on all devices together, by purpose."""
        devices = self.memory_by_device().values()
        return {name: sum(each[name] for each in devices) for name in next(iter(devices))}

    def memory_by_device(self) -> dict[str, dict[str, int]]:
        """Return bytes held by each device; the CPU's buffers hold the rows that cross borders."""
        held = {device: dict(backend.memory()) for device, backend in self.devices.items()}
        held[CPU]["buffers"] += sum(program.n_bytes for program in self._programs)
        held[CPU]["weights"] += sum(weight.data.nbytes for weight in self._waiting.values())
        return held

    def close(self) -> None:
        """Free everything on all devices."""
        with contextlib.ExitStack() as rest:  # what comes last is closed first
            for backend in self.devices.values():
                rest.callback(backend.close)
            for program in self._programs:
                rest.callback(program.close)
            self._programs.clear()
            self._waiting.clear()
