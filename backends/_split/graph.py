"""A graph cut into parts, one for each device, and the order in which they take turns.

A value that another device reads crosses a border: the part that makes it ends a view of it, named
"<value> to host", and each part that reads it has a node `from_host`, "<value> from host". Both are
hook points, so whoever runs the parts copies the rows in taps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jitllm.backends._cpu.plan import Arena
from jitllm.backends.base import BackendUnavailable
from jitllm.backends.ir import CacheSpec, Graph, Node, Value
from jitllm.backends.placement import Placement, layer_of

READ_TOKENS = ("embed", "token_table", "ngram_embed")
NO_TYPE = "f32"
"""Type of a cache where a device has none of its layers: one that every device takes."""


@dataclass(frozen=True)
class Homes:
    """The devices of each layer of each cache, and of each state."""

    caches: tuple[tuple[str, ...], ...]
    states: tuple[str, ...]

    @classmethod
    def of(cls, graph: Graph, placement: Placement) -> "Homes":
        """Return where a placement has them: with the first node that names them."""
        layers, states = dict[tuple[int, int], str](), dict[int, str]()
        for node in graph.all_nodes:
            if node.attrs.get("cache", -1) >= 0:
                place = node.attrs["cache"], node.attrs["layer"]
                layers.setdefault(place, placement.cache_of(node.name))
            if "state" in node.attrs:
                states.setdefault(node.attrs["state"], placement.cache_of(node.name))
        caches = tuple(
            tuple(layers[c, i] for i in range(len(spec.layers)))
            for c, spec in enumerate(graph.caches)
        )
        return cls(caches, tuple(states[i] for i in range(len(graph.states))))

    def layers_on(self, device: str, cache: int) -> list[int]:
        """Return the layers of a cache that a device has; their order is that of its own."""
        return [i for i, home in enumerate(self.caches[cache]) if home == device]

    def states_on(self, device: str) -> list[int]:
        """Return the states that a device has, in the order of its own."""
        return [i for i, home in enumerate(self.states) if home == device]

    def spec_on(self, device: str, cache: int, spec: CacheSpec) -> CacheSpec:
        """Return a cache with the layers of a device alone."""
        return replace(spec, layers=tuple(spec.layers[i] for i in self.layers_on(device, cache)))


@dataclass(frozen=True)
class Part:
    """What one device runs; `exports` and `imports` are numbers of values by hook point."""

    device: str
    graph: Graph
    exports: Mapping[str, int]
    imports: Mapping[str, int]
    reads_tokens: bool
    own: frozenset[str]  # names of the whole graph's nodes


@dataclass(frozen=True)
class Turn:
    """A device runs until it wants an import that is none of these."""

    device: str
    imports: frozenset[str]


@dataclass(frozen=True)
class Cut:
    """Parts by device, their turns in order, and where rows lie on the host in between.

    Value v has its rows at `places[v]` times the rows of a run, of `row_bytes` times them. `output`
    is the device that makes the logits.
    """

    parts: Mapping[str, Part]
    turns: tuple[Turn, ...]
    values: Mapping[int, Value]
    places: Mapping[int, int]
    row_bytes: int
    output: str


def node_devices(graph: Graph, placement: Placement, homes: Homes) -> dict[str, str]:
    """Return the device of every node, by name.

    A node is where its cells or its state are; else where its weights are, all of them where the
    first is that an override names, or else the first; else where its inputs from the same layer
    are made, if that is one place; else with its layer.
    """
    devices, made = dict[str, str](), dict[int, str]()
    for node in graph.nodes:
        device = _home(node, homes) or _of_weights(node, placement)
        device = device or _of_inputs(node, made, placement)
        devices[node.name] = device
        made |= dict.fromkeys((value.id for value in node.outputs), device)
    return devices


def _home(node: Node, homes: Homes) -> str:
    attrs = node.attrs
    if attrs.get("cache", -1) >= 0:
        return homes.caches[int(attrs["cache"])][int(attrs["layer"])]
    return homes.states[int(attrs["state"])] if "state" in attrs else ""


def _of_weights(node: Node, placement: Placement) -> str:
    names = [name for name in node.weights if name]
    if not names:
        return ""
    moved = [name for name in names if placement.override_of(name)]
    name = (moved or names)[0]
    if node.op in READ_TOKENS and not moved and layer_of(name) is None:
        return placement.input
    return placement.device_of(name, as_output=True)


def _of_inputs(node: Node, made: Mapping[int, str], placement: Placement) -> str:
    layer = layer_of(node.name)
    near = {made[value.id] for value in node.inputs if layer_of(value.name) == layer}
    if len(near) == 1:
        return near.pop()
    if layer is not None:
        return placement.layers[layer]
    return placement.output if node.inputs else placement.input


def readers(graphs: Sequence[Graph], placement: Placement) -> dict[str, set[str]]:
    """Return the devices whose nodes read each tensor of some graphs."""
    found = dict[str, set[str]]()
    for graph in graphs:
        homes = Homes.of(graph, placement)
        for each in (graph.encoder, graph):
            devices = node_devices(each, placement, homes) if each else {}
            for node in each.nodes if each else ():
                for name in node.tensors:
                    found.setdefault(name, set()).add(devices[node.name])
    return found


def used_devices(graphs: Sequence[Graph], placement: Placement) -> tuple[str, ...]:
    """Return the devices that graphs need, the CPU first."""
    read = {device for names in readers(graphs, placement).values() for device in names}
    used = read | {placement.input, *placement.layers, placement.output, *placement.caches}
    return tuple(device for device in placement.devices if device in used)


def cut(graph: Graph, devices: Mapping[str, str], homes: Homes) -> Cut:
    """Cut a graph.

    Parameters
    ----------
    graph : Graph
    devices : mapping
        Of every node, by name; see `node_devices`.
    homes : Homes

    Raises
    ------
    BackendUnavailable
        If a value without columns would have to cross a border.
    """
    cutter = _Cutter(graph, devices, homes)
    for node in graph.nodes:
        cutter.add(node)
    return cutter.finish()


class _Part:
    """A part in the making."""

    def __init__(self, device: str) -> None:
        self.device, self.turn = device, -1
        self.nodes: list[Node] = []
        self.exports: dict[str, int] = {}
        self.imports: dict[str, int] = {}
        self.own: set[str] = set()


class _Cutter:
    def __init__(self, graph: Graph, devices: Mapping[str, str], homes: Homes) -> None:
        self.graph, self.devices, self.homes = graph, devices, homes
        self.parts: dict[str, _Part] = {}
        self.turns: list[tuple[str, set[str]]] = []
        self.next_id = 1 + max(value.id for node in graph.nodes for value in node.outputs)
        self.made: dict[int, _Part] = {}
        self.made_in: dict[int, int] = {}  # turn
        self.read_in: dict[int, int] = {}  # last turn, of values that cross
        self.values: dict[int, Value] = {}
        self._crossing = self._find_crossing()

    def _find_crossing(self) -> set[int]:
        made = {v.id: self.devices[n.name] for n in self.graph.nodes for v in n.outputs}
        return {
            value.id for node in self.graph.nodes for value in node.inputs
            if made[value.id] != self.devices[node.name]
        }  # fmt: skip

    def add(self, node: Node) -> None:
        """Append a node to its device's part."""
        device = self.devices[node.name]
        part = self.parts.setdefault(device, _Part(device))
        wanted = {
            value.id: value for value in node.inputs
            if self.made[value.id] is not part and _import(value) not in part.imports
        }  # fmt: skip
        if part.turn < 0 or any(self.made_in[i] > part.turn for i in wanted):
            part.turn = len(self.turns)
            self.turns.append((device, set()))
        for value in wanted.values():
            self._bring(part, value, node)
        part.nodes.append(self._moved(node))
        part.own.add(node.name)
        for value in node.outputs:
            self.made[value.id], self.made_in[value.id] = part, part.turn
            if value.id in self._crossing:
                self._send(part, value)

    def _bring(self, part: _Part, value: Value, node: Node) -> None:
        if not value.width:
            raise BackendUnavailable(
                f"node {node.name!r} on {part.device} reads {value.name!r} of "
                f"{self.made[value.id].device}, which has no rows to copy; keep both on one device"
            )
        name = _import(value)
        part.imports[name] = value.id
        part.nodes.append(Node("from_host", name, (), (replace(value, name=name),)))
        self.turns[part.turn][1].add(name)
        self.read_in[value.id] = max(part.turn, self.read_in.get(value.id, 0))

    def _send(self, part: _Part, value: Value) -> None:
        name = f"{value.name} to host"
        part.exports[name], self.values[value.id] = value.id, value
        part.nodes.append(self._view(name, value, {"start": 0, "stop": value.width}))

    def _view(
        self, name: str, value: Value, attrs: Mapping[str, float], op: str = "columns"
    ) -> Node:
        rows = "O" if op == "select_outputs" else value.rows
        out = Value(self.next_id, name, rows, value.width)
        self.next_id += 1
        return Node(op, name, (value,), (out,), (), attrs)

    def _moved(self, node: Node) -> Node:
        """Number cells and states as the device does."""
        attrs, device = dict(node.attrs), self.devices[node.name]
        if attrs.get("cache", -1) >= 0:
            attrs["layer"] = self.homes.layers_on(device, attrs["cache"]).index(attrs["layer"])
        if "state" in attrs:
            attrs["state"] = self.homes.states_on(device).index(attrs["state"])
        return node if attrs == node.attrs else replace(node, attrs=attrs)

    def finish(self) -> Cut:
        parts = {name: self._part(part) for name, part in self.parts.items()}
        turns = tuple(Turn(device, frozenset(names)) for device, names in self.turns)
        places, row_bytes = self._places()
        output = self.made[self.graph.output.id].device
        return Cut(parts, turns, self.values, places, row_bytes, output)

    def _part(self, part: _Part) -> Part:
        graph, device = self.graph, part.device
        tokens = any(node.op in READ_TOKENS for node in part.nodes)
        if len(self.parts) == 1:
            return Part(device, graph, {}, {}, tokens, frozenset(part.own))
        if self.made[graph.output.id] is not part:
            part.nodes.append(self._end(part))
        width = part.nodes[-1].outputs[0].width
        own = replace(
            graph, nodes=tuple(part.nodes),
            caches=tuple(self.homes.spec_on(device, c, s) for c, s in enumerate(graph.caches)),
            vocab_size=self._vocab_size(part, width),
            states=tuple(graph.states[i] for i in self.homes.states_on(device)) if graph.states
            else (), encoder=None, hidden="",
        )  # fmt: skip
        return Part(device, own, part.exports, part.imports, tokens, frozenset(part.own))

    def _vocab_size(self, part: _Part, width: int) -> int:
        """Of a part: where there is no table to compare tokens with, backends take this number."""
        ops = {node.op for node in part.nodes}
        is_alone = "embed" not in ops and not ops.isdisjoint(READ_TOKENS)
        return max(width, self.graph.vocab_size) if is_alone else width

    def _end(self, part: _Part) -> Node:
        """A graph ends with rows "O": take what was made last."""
        value = next(n.outputs[0] for n in reversed(part.nodes) if n.outputs[0].width)
        if value.rows == "O":
            return self._view("end of part", value, {"factor": 1.0}, "scale")
        return self._view("end of part", value, {}, "select_outputs")

    def _places(self) -> tuple[dict[int, int], int]:
        """Share the host's memory between values that are not there at the same time."""
        arena, places = Arena(), dict[int, int]()
        for turn in range(len(self.turns)):
            for i, value in self.values.items():
                if self.made_in[i] == turn:
                    places[i] = arena.take(4 * value.width)
            for i, value in self.values.items():
                if self.read_in[i] == turn:
                    arena.give(places[i], 4 * value.width)
        return places, arena.size


def _import(value: Value) -> str:
    return f"{value.name} from host"
