"""Measure which columns of a model's matrices matter: sums of squares of what they multiply."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jitllm.backends.ir import Graph, Node
from jitllm.llm.errors import ContextLengthExceeded
from jitllm.llm.graph.rewrite import EXPERTS, open_experts
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.progress import ProgressBar
from jitllm.llm.quantize.importance import CHUNK_SIZE, Importance, Squares, checked
from jitllm.llm.state.engine import Engine
from jitllm.llm.texts import Text

if TYPE_CHECKING:
    from jitllm.llm.model import Model

_log = logging.getLogger("jitllm.imatrix")

_PRODUCTS = ("matmul", "head_matmul", "row_dot")
_OUTPUT = "output.weight"


def measure(
    model: "Model",
    text: Text,
    *,
    n_ctx: int = CHUNK_SIZE,
    n_chunks: int | None = None,
    first_chunk: int = 0,
    process_output: bool = False,
    parse_special: bool = False,
    dataset: str = "",
    progress: bool = False,
    each: Callable[[Importance], None] | None = None,
) -> Importance:
    """Measure the importance of columns of the layers' matrices, as `llama-imatrix` does.

    Chunks of `n_ctx` tokens; the first token of each is replaced by the token of beginning if the
    model wants one.

    Parameters
    ----------
    model : Model
        Unquantized weights and `precision="exact"` give what the quantized model is to keep; the
        differences are small otherwise.
    text : str or ids
    n_ctx : int
    n_chunks : int, optional
        Most chunks to use.
    first_chunk : int
        Chunks to leave out at the beginning.
    process_output : bool
        Measure `output.weight` too.
    parse_special : bool
        Read names of special tokens in a text as tokens.
    dataset : str
        Name of the text, for the file.
    progress : bool
    each : callable, optional
        Called with what was measured so far after every chunk but the last, such as to save it.

    Raises
    ------
    ValueError
        If the text is shorter than a chunk.
    ContextLengthExceeded
        If `n_ctx` is more than the model's.
    ModelFormatError
        If activations are not finite.

    Examples
    --------
    ::

        text = Path("calibration.txt").read_text()
        jitllm.llm.imatrix.measure(model, text).save("imatrix.gguf")
    """
    ids = model.tokenize(text, parse_special=parse_special) if isinstance(text, str) else text
    chunks = _chunks(model, model.to_ids(ids), n_ctx, first_chunk)
    if not chunks or (n_chunks is not None and n_chunks < 1):
        raise ValueError(
            f"expected a text of at least {n_ctx} tokens behind {first_chunk} chunks, and at "
            f"least one chunk; got {len(chunks)} chunks and n_chunks={n_chunks}"
        )
    wanted, bar = chunks[:n_chunks], ProgressBar(progress, "measuring importance", unit="chunk")
    with _watched(model, process_output) as collector, bar:
        for i, chunk in enumerate(wanted, start=1):
            _run(model.engine, chunk, collector)
            bar.update(i, len(wanted))
            if each is not None and i < len(wanted):
                each(collector.importance(dataset, i, n_ctx))
        return collector.importance(dataset, len(wanted), n_ctx)


def _chunks(model: "Model", ids: list[int], n_ctx: int, first: int) -> list[list[int]]:
    if n_ctx < 1 or first < 0:
        raise ValueError(f"expected n_ctx from 1 and first_chunk from 0, got {n_ctx} and {first}")
    if n_ctx > model.n_ctx:
        raise ContextLengthExceeded(
            f"expected chunks of at most {model.n_ctx} tokens, got n_ctx={n_ctx}; "
            "load the model with a larger n_ctx"
        )
    tokenizer = model.tokenizer
    chunks = [ids[i : i + n_ctx] for i in range(first * n_ctx, len(ids) - n_ctx + 1, n_ctx)]
    if tokenizer is not None and tokenizer.add_bos and tokenizer.bos_id is not None:
        chunks = [[tokenizer.bos_id, *chunk[1:]] for chunk in chunks]
    return chunks


@contextmanager
def _watched(model: "Model", process_output: bool) -> Iterator["_Collector"]:
    """Have the engine add up squares in experts, which no hook sees."""
    engine = model.engine
    before = engine.graph
    with GGUFFile(model.identity.paths) as file:
        shapes = {name: info.shape for name, info in file.tensors.items()}
    collector = _Collector(before, shapes, process_output)
    engine.use(collector.graph)
    try:
        yield collector
    finally:
        engine.use(before)


def _run(engine: Engine, chunk: list[int], collector: "_Collector") -> None:
    rows = np.arange(len(chunk) if collector.needs_outputs else 0)
    cells = engine.new_cells()
    try:
        if engine.graph.encoder:  # the same text for both
            engine.encode(cells, chunk, rows, [collector])
        for _ in engine.run(cells, chunk, 0, rows, [collector]):
            collector.drain()
    finally:
        cells.release()


class _Collector:
    """Adds up squares: hooks see what products read, the nodes of experts have sums of their own.

    Attributes
    ----------
    taps : frozenset of str
    graph : Graph
        To be run in place of the model's.
    needs_outputs : bool
        Some products have only the rows whose logits are asked for.
    """

    def __init__(
        self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], process_output: bool
    ) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, NDArray[np.float64]] = {}
        self._readers: dict[str, list[str]] = {}
        self._partial: dict[str, tuple[NDArray[np.float32], NDArray[np.int32]]] = {}
        self.needs_outputs = False
        for node in graph.all_nodes:
            name = node.weights[0] if node.weights else ""
            is_wanted = ".blk." in f".{name}" or (process_output and name == _OUTPUT)
            # what adapters bring along has no shape in the file
            if node.op in _PRODUCTS and is_wanted and name in shapes:
                self._add_product(node)
        if process_output and _OUTPUT not in self._sums:
            _log.warning("%s is not measured: the model has none of its own", _OUTPUT)
        nodes = (self._opened(n, shapes) if n.op in EXPERTS else n for n in graph.nodes)
        self.graph = replace(graph, nodes=tuple(nodes))
        self.taps = frozenset(self._readers)

    def _add_product(self, node: Node) -> None:
        (x,), name = node.inputs, node.weights[0]
        self.needs_outputs |= x.rows == "O"
        readers = self._readers.setdefault(x.name, [])
        if name not in readers:
            readers.append(name)
        self._sums[name] = np.zeros((1, x.width))
        self._counts[name] = np.zeros(1)

    def _opened(self, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> Node:
        for name in filter(None, node.weights[:3]):
            n_experts, _, width = shapes[name]
            self._sums[name] = np.zeros((n_experts, width))
            self._counts[name] = np.zeros(n_experts)
            sums = np.zeros((n_experts, -(-width // 16) * 16), np.float32)  # kernels fill lines
            self._partial[name] = sums[:, :width], np.zeros(n_experts, np.int32)
        squares = tuple(self._partial.get(name) for name in node.weights[:3])
        return open_experts(node, squares=squares)

    def __call__(self, tap: str, values: NDArray[np.float32]) -> None:
        """Add the squares of what one or more matrices read."""
        squares = np.einsum("tk,tk->k", values, values, dtype=np.float64)
        for name in self._readers[tap]:
            self._sums[name] += squares
            self._counts[name] += len(values)

    def drain(self) -> None:
        """Take what the experts of one run added up in float32."""
        for name, (sums, counts) in self._partial.items():
            self._sums[name] += sums
            self._counts[name] += counts
            sums[:], counts[:] = 0, 0

    def importance(self, dataset: str, n_chunks: int, n_ctx: int) -> Importance:
        """Return what was measured so far."""
        squares = {name: Squares(sums.copy(), self._counts[name].copy())
                   for name, sums in self._sums.items()}  # fmt: skip
        return checked(Importance(squares, (dataset,) if dataset else (), n_chunks, n_ctx))
