"""From a file to a backend that holds its weights, and the graph that runs on it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jitllm import backends
from jitllm.backends.base import Backend, Weight
from jitllm.backends.ir import Graph
from jitllm.backends.rules import TensorShape
from jitllm.kernels import formats
from jitllm.llm import models
from jitllm.llm.config import Metadata, ModelConfig
from jitllm.llm.errors import GGUFError, UnsupportedFormat
from jitllm.llm.failures import device_errors
from jitllm.llm.graph.builder import Floats, GraphBuilder
from jitllm.llm.loaders.gguf import GGUFFile, TensorInfo
from jitllm.llm.placing import Placing
from jitllm.llm.pooling import HEAD_TENSORS, Head

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OpenModel:
    """A model on a device.

    Attributes
    ----------
    config : ModelConfig
    graph : Graph
    backend : Backend
        Holds the weights; its owner closes it.
    n_ctx : int
        Most positions of a sequence.
    unused : tuple of str
        Tensors of the file that the graph does not read.
    head : Head or None
        The classifier of a reranker.
    mtp : tuple of Graph
        The blocks that predict further tokens, if they were asked for.
    """

    config: ModelConfig
    graph: Graph
    backend: Backend
    n_ctx: int
    unused: tuple[str, ...] = field(default=(), repr=False)
    head: Head | None = field(default=None, repr=False)
    mtp: tuple[Graph, ...] = field(default=(), repr=False)


def open_model(
    file: GGUFFile,
    device: str | Placing,
    *,
    n_ctx: int | None = None,
    mtp: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> OpenModel:
    """Build the graph of a file and put its weights on a device.

    Parameters
    ----------
    file : GGUFFile
        May be closed afterwards.
    device : str or Placing
        One of `jitllm.backends.names()`, or several and what each of them has.
    n_ctx : int, optional
        Most positions of a sequence; by default what the model was made for.
    mtp : bool
        Load the blocks that predict further tokens, too: all that the file has, at least one.
    progress : callable, optional
        Called with (bytes done, bytes in all) before the first and after every tensor. An exception
        from it stops the loading and frees what was loaded.
    **options
        For the backend: `n_threads`, `precision`.

    Raises
    ------
    UnsupportedArchitecture
    UnsupportedFormat
        If a tensor has a type without kernels.
    ModelFormatError, GGUFError
        If metadata or tensors are not what the architecture needs.
    BackendError
        If the device cannot be opened or cannot hold the model.
    """
    models.get(Metadata(file.metadata, "general").get("architecture", str))  # else: keys unknown
    config = ModelConfig.from_file(file)
    n_ctx = n_ctx or config.max_position_embeddings
    blocks = build_mtp_graphs(file, config, n_ctx) if mtp else ()
    graph, read = build_graph(file, config, n_ctx, with_hidden=mtp)
    head = _head(file, config, graph)
    used = _used(file, (graph, *blocks))
    with device_errors(of_memory=True):
        backend = _open(file, config, device, (graph, *blocks), **options)
        try:
            _load(file, backend, used, progress)
        except BaseException:
            backend.close()
            raise
    seen = {info.name for info in used} | read | set(head.tensors if head else ())
    unused = tuple(name for name in file.tensors if name not in seen)
    return OpenModel(config, graph, backend, n_ctx, unused, head, blocks)


def _open(
    file: GGUFFile, config: ModelConfig, device: str | Placing, graphs: Sequence[Graph],
    **options: Any,
) -> Backend:  # fmt: skip
    placing = Placing(device) if isinstance(device, str) else device
    if placing.is_whole:
        return backends.open_backend(placing.devices[0], **options)
    placement = placing.placement(count_layers(file, config))
    return backends.open_split(placement, graphs, **options)


def count_layers(file: GGUFFile, config: ModelConfig) -> int:
    """Return all layers of a file, blocks that predict further tokens included."""
    from jitllm.backends.placement import layer_of

    named = (layer_of(name) for name in file.tensors)  # a decoder may have more than the config's
    return max(config.num_hidden_layers, *(1 + i for i in named if i is not None), 1)


def build_graph(
    file: GGUFFile, config: ModelConfig, n_ctx: int, *, with_hidden: bool = False
) -> tuple[Graph, set[str]]:
    """Return the graph of a file, and the tensors that became attributes of its nodes.

    `with_hidden`: blocks that predict further tokens will read `Graph.hidden`.

    Raises
    ------
    UnsupportedArchitecture
    GGUFError
        If a tensor is missing or has another shape than its place needs.
    """
    read: set[str] = set()

    def values(name: str) -> Floats:
        read.add(name)
        return _values(file, name)

    g = GraphBuilder(file.tensors, values, n_ctx, with_hidden)
    build = models.get(config.architecture)
    return _built(file, g, lambda: build(g, config)), read


def build_mtp_graphs(file: GGUFFile, config: ModelConfig, n_ctx: int) -> tuple[Graph, ...]:
    """Return the graphs of the file's blocks that predict further tokens.

    Each reads float rows (`Batch.hidden`) beside tokens: those of the value `Graph.hidden` of the
    model's graph, or of a block's. `jitllm.llm.models._nextn` says which.

    Raises
    ------
    UnsupportedArchitecture
        If the architecture has no such blocks here.
    ModelFormatError
        If the file has none.
    GGUFError
        If a tensor is missing or has another shape than its place needs.
    """
    build, graphs = models.get_mtp(config.architecture), list[Graph]()
    for block in range(max(1, config.metadata.get("nextn_predict_layers", int, 0))):
        g = GraphBuilder(file.tensors, lambda name: _values(file, name), n_ctx)
        graphs.append(_built(file, g, functools.partial(build, g, config, block)))
    return tuple(graphs)


def _built(file: GGUFFile, g: GraphBuilder, build: Callable[[], None]) -> Graph:
    try:
        build()
        return g.build()
    except GGUFError as error:
        raise GGUFError(f"{file.paths[0]}: {error}") from error


def _values(file: GGUFFile, name: str) -> Floats:
    info = file.tensors[name]
    return formats.dequantize(info.type_name, file.data(name), info.shape).copy()


def weight_shapes(file: GGUFFile, graph: Graph) -> list[TensorShape]:
    """Return the weights that `open_model` gives to a backend for a graph, as it gives them.

    Raises
    ------
    UnsupportedFormat
        If a tensor has a type without kernels.
    """
    return [TensorShape(i.name, _held_type(i), i.shape) for i in _used(file, (graph,))]


def _held_type(info: TensorInfo) -> str:
    """Return the type a backend gets a tensor in: its own, or F32 where no kernel reads that."""
    return info.type_name if info.type_name in formats.names() else "F32"


def _head(file: GGUFFile, config: ModelConfig, graph: Graph) -> Head | None:
    """The classifier that the file has, if it has one."""
    tensors = {name: _values(file, name) for name in HEAD_TENSORS if name in file.tensors}
    is_one = "cls.weight" in tensors or "cls.output.weight" in tensors
    return Head.of(config, tensors, is_encoder=graph.is_encoder) if is_one else None


def _used(file: GGUFFile, graphs: Sequence[Graph]) -> list[TensorInfo]:
    """The tensors that nodes name, in the order of the file, their types checked."""
    nodes = (node for graph in graphs for node in graph.all_nodes)
    wanted = {name for node in nodes for name in node.weights if name}
    infos = sorted((file.tensors[name] for name in wanted), key=lambda t: (t.file, t.offset))
    for info in infos:
        _check_type(info)
    return infos


def _check_type(info: TensorInfo) -> None:
    if info.type_name not in formats.weights():
        raise UnsupportedFormat(
            f"tensor {info.name!r}: expected a type among {', '.join(formats.weights())}; "
            f"got {info.type_name}; convert the model to one of these"
        )


def _load(
    file: GGUFFile, backend: Backend, infos: list[TensorInfo], progress: Progress | None
) -> None:
    total, done = sum(info.nbytes for info in infos), 0
    report = progress or (lambda done, total: None)
    report(done, total)
    for info in infos:
        type_name, data = _held_type(info), file.data(info.name)
        if type_name != info.type_name:
            values = formats.dequantize(info.type_name, data, info.shape)
            data = formats.quantize(type_name, values).reshape(-1)
        release = _releaser(file, info.name)
        backend.add_weight(Weight(info.name, type_name, info.shape, data, release))
        done += info.nbytes
        report(done, total)


def _releaser(file: GGUFFile, name: str) -> Callable[[], None]:
    return lambda: file.release(name)
