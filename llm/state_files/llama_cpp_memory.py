"""What llama.cpp remembers of a sequence, in the order in which its state files have it.

First the cache of all positions; then, for sparse attention, that of index keys; then that of
sliding windows; then the states of recurrent layers. Latent attention has keys only there: its
values are their first columns.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from jitllm.backends.ir import Graph
from jitllm.kernels import cache_types
from jitllm.kernels.cache_types import Rows
from jitllm.llm.errors import UnsupportedArchitecture
from jitllm.llm.state_files.llama_cpp_states import LayerStates, layers_of

if TYPE_CHECKING:
    from jitllm.llm.model import Model

Places = dict[tuple[int, int], int]

_BLOCK = re.compile(r"blk\.([0-9]+)\.")
_AXES = ("paddleocr", "qwen2vl", "qwen35", "qwen35moe", "qwen3tts", "qwen3vl", "qwen3vlmoe")
_AXES_IF_SECTIONS = ("bailingmoe3", "glm4", "glm4moe", "hunyuan_vl")
_INDEXED = ("deepseek32", "dots3note", "glm-dsa", "hy_v4", "minimax-m3")
_TURNED_INDEX = ("deepseek32", "dots3note", "glm-dsa")  # by a Hadamard matrix, as floats too
_REFUSED = {
    "deepseek4": "its file has compressed caches, and sums of compressors, in a form of their own",
    "glm5-next": "its file has an index key for each token, here are means of several",
    "qwen4exp": "its file has a second row of states, and an index key for each token",
}


class CacheLayer(NamedTuple):
    """A layer of our caches.

    Attributes
    ----------
    cache, layer : int
    heads, dk : int
    dv : int
        Numbers of a value in the file; 0 if it has none.
    is_index : bool
        Whether these are index keys: values that the file has beside them mean nothing.
    """

    cache: int
    layer: int
    heads: int
    dk: int
    dv: int
    is_index: bool


@dataclass(frozen=True)
class CachePart:
    """One of llama.cpp's caches.

    Attributes
    ----------
    window : int
        Positions a query sees; 0 for all.
    layers : tuple of CacheLayer
        In the order of the model's blocks.
    turned : str
        Which rows were multiplied by a Hadamard matrix: "quantized", "all" or "none".
    """

    window: int
    layers: tuple[CacheLayer, ...]
    turned: str

    def keys(self, layer: CacheLayer, kind: str) -> Rows:
        """Return how the file has a layer's keys."""
        widths = {each.dk for each in self.layers}
        hadamard = cache_types.hadamard_of_keys(layer.dk) if self._is_turned(kind, widths) else 0
        return Rows(kind, layer.heads, layer.dk, hadamard, True)

    def values(self, layer: CacheLayer, kind: str) -> Rows:
        """Return how the file has a layer's values."""
        widths = {each.dv for each in self.layers}
        hadamard = cache_types.hadamard_of_values(layer.dv) if self._is_turned(kind, widths) else 0
        return Rows(kind, layer.heads, layer.dv, hadamard, False)

    def _is_turned(self, kind: str, widths: set[int]) -> bool:
        """Whether rows are turned: never those of layers with heads of several widths."""
        if self.turned != "quantized":
            return self.turned == "all"
        return cache_types.is_quantized(kind) and len(widths) == 1


@dataclass(frozen=True)
class Memory:
    """All that llama.cpp remembers.

    Attributes
    ----------
    caches : tuple of CachePart
    states : tuple of LayerStates
        Of recurrent layers.
    n_layers : int
        Layers of the model, those that predict further tokens left out.
    has_axes : bool
        Whether cells have positions along several axes.
    """

    caches: tuple[CachePart, ...]
    states: tuple[LayerStates, ...]
    n_layers: int
    has_axes: bool


def memory_of(model: "Model") -> Memory:
    """Return what llama.cpp has for a model.

    Raises
    ------
    UnsupportedArchitecture
        If it has something that cannot be made of what is here, or the other way round.
    """
    graph, name = model.engine.graph, model.identity.architecture
    _check(model)
    number = _Numbers(model)
    main, index = _owners(graph)
    is_latent = number("attention.key_length_mla") > 0
    windows = sorted({0, *(spec.window for spec in graph.caches)}) if graph.caches else []
    if len(windows) > 2:
        raise _refusal(name, f"llama.cpp has windows of one size, these are {windows[1:]}")
    turned = "none" if is_latent or (graph.states and len(windows) > 1) else "quantized"
    parts = []
    for window in windows:
        own = [place for place in main if graph.caches[place[0]].window == window]
        layers = (_layer(graph, place, has_values=not is_latent) for place in own)
        parts.append(CachePart(window, tuple(layers), turned))
    if index:
        dv = 0 if is_latent else parts[0].layers[0].dv
        keys = (_layer(graph, place)._replace(dv=dv, is_index=True) for place in index)
        parts.insert(1, CachePart(0, tuple(keys), "all" if name in _TURNED_INDEX else "none"))
    n_layers = number("block_count") - number("nextn_predict_layers")
    sections = model.metadata.get(f"{name}.rope.dimension_sections", ())
    has_axes = name in _AXES or (name in _AXES_IF_SECTIONS and min((*sections, 0, 0)[:2]) > 0)
    return Memory(tuple(parts), tuple(layers_of(graph)), n_layers, has_axes)


class _Numbers:
    """Numbers of the metadata, by their keys without the architecture; 0 where there is none."""

    def __init__(self, model: "Model") -> None:
        self._values, self._prefix = model.metadata, model.identity.architecture

    def __call__(self, key: str) -> int:
        value = self._values.get(f"{self._prefix}.{key}", 0)
        return value if isinstance(value, int) else 0


def _check(model: "Model") -> None:
    """Raise UnsupportedArchitecture where the kind of memory is another one."""
    graph, name = model.engine.graph, model.identity.architecture
    if name in _REFUSED:
        raise _refusal(name, _REFUSED[name])
    if graph.encoder:
        raise _refusal(name, "llama.cpp does not save what the encoder read")
    if not graph.caches and not graph.states:
        raise _refusal(name, "they remember nothing")
    main, index = _owners(graph)
    if name in _INDEXED and _Numbers(model)("attention.indexer.top_k") and not index:
        raise _refusal(name, f"its file has index keys, for which n_ctx={model.n_ctx} is too small")
    sizes = [(i, j) for i, spec in enumerate(graph.caches) for j in range(len(spec.layers))]
    if sorted((*main, *index)) != sizes or (index and name not in _INDEXED):
        raise _refusal(name, "its caches are divided in another way")


def _refusal(name: str, reason: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(
        f"sequences of {name!r} models cannot be exchanged with llama.cpp: {reason}; save them "
        "with Sequence.save"
    )


def _owners(graph: Graph) -> tuple[Places, Places]:
    """Return the first block of each cache's layer: of keys and values, and of index keys."""
    found: tuple[Places, Places] = {}, {}
    for node in graph.nodes:
        block = _BLOCK.match(node.name)
        if "layer" in node.attrs and block:
            place = node.attrs["cache"], node.attrs["layer"]
            found[node.op.startswith("index_")].setdefault(place, int(block[1]))
    main, index = (dict(sorted(owners.items(), key=lambda item: item[1])) for owners in found)
    return main, index


def _layer(graph: Graph, place: tuple[int, int], *, has_values: bool = True) -> CacheLayer:
    heads, dk, dv = graph.caches[place[0]].layers[place[1]]
    return CacheLayer(*place, heads, dk, dv if has_values else 0, False)
