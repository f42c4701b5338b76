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
_INDEXED = ("deepseek32", "dots3note", "glm-dsa", "hy_v4")
_TURNED_INDEX = ("deepseek32", "dots3note", "glm-dsa")  # by a Hadamard matrix, as floats too
_REFUSED = {
    "deepseek4": "its file has compressed caches, and sums of compressors, in a form of their own",
    "glm5-next": "its file has an index key for each token, here are means of several",
    "minimax-m3": "its file has index keys only where it ran with flash attention",
    "qwen4exp": "its file has an index key for each token, here are means of several",
}


class CacheLayer(NamedTuple):
    """A layer of our caches, and whether the file has its values."""

    cache: int
    layer: int
    sizes: tuple[int, int, int]
    has_values: bool


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
        heads, dk, _ = layer.sizes
        hadamard = cache_types.hadamard_of_keys(dk) if self._is_turned(kind, 1) else 0
        return Rows(kind, heads, dk, hadamard, True)

    def values(self, layer: CacheLayer, kind: str) -> Rows:
        """Return how the file has a layer's values."""
        heads, _, dv = layer.sizes
        hadamard = cache_types.hadamard_of_values(dv) if self._is_turned(kind, 2) else 0
        return Rows(kind, heads, dv, hadamard, False)

    def _is_turned(self, kind: str, size: int) -> bool:
        """Whether rows are turned: never those of layers with heads of several sizes."""
        if self.turned != "quantized":
            return self.turned == "all"
        widths = {layer.sizes[size] for layer in self.layers}
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
    layers = {
        (i, j): CacheLayer(i, j, graph.caches[i].layers[j], not is_latent)
        for i, j in (*main, *index)
    }
    windows = sorted({0, *(spec.window for spec in graph.caches)}) if graph.caches else []
    if len(windows) > 2:
        raise _refusal(name, f"llama.cpp has windows of one size, these are {windows[1:]}")
    turned = "none" if is_latent or (graph.states and len(windows) > 1) else "quantized"
    parts = []
    for window in windows:
        own = tuple(layers[place] for place in main if _window(graph, place) == window)
        parts.append(CachePart(window, own, turned))
    if index:
        keys = tuple(layers[place] for place in index)
        parts.insert(1, CachePart(0, keys, "all" if name in _TURNED_INDEX else "none"))
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
        raise _refusal(name, "its file has index keys, which short contexts do not need here")
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


def _window(graph: Graph, place: tuple[int, int]) -> int:
    return graph.caches[place[0]].window
