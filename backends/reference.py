"""The NumPy backend: `kernels.reference` node by node; the shortest complete backend, the oracle.

It computes in float64 between values, so its logits are closer to the model than any other
backend's; the library behind NumPy's matrix product may sum in another order for another number of
rows, so its last bits may depend on the batch.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from jitllm.backends._array_pool import ArrayPool
from jitllm.backends.base import (
    PAGE_TOKENS,
    Backend,
    BackendUnavailable,
    Batch,
    Floats,
    Pool,
    Program,
    StatePool,
    Steps,
    Tap,
    Weight,
    options_error,
)
from jitllm.backends.ir import CacheSpec, Graph, Node
from jitllm.backends.rules import ByteRules, LayerSizes, PoolSizes, TensorShape
from jitllm.kernels import formats
from jitllm.kernels import reference as kernels
from jitllm.kernels.cache_types import cell_bytes

_PRECISIONS = ("fast", "exact")


def open(
    n_threads: int | None = None, precision: str = "fast", index: int = 0, **options: Any
) -> Backend:
    """Open the NumPy backend; NumPy decides its threads, so `n_threads` changes nothing here.

    There are as many devices as one likes, to try what several do: `index` changes nothing, too.
    """
    _check(precision, options)
    return ReferenceBackend(precision)


def rules(n_threads: int | None = None, precision: str = "fast", **options: Any) -> ByteRules:
    """Return the bytes that `open` with the same options leads to."""
    _check(precision, options)
    return ReferenceRules()


def _check(precision: str, options: dict[str, Any]) -> None:
    if options:
        raise options_error("reference", options)
    if precision not in _PRECISIONS:
        raise ValueError(f"precision must be one of {_PRECISIONS}, got {precision!r}")


class ReferenceRules(ByteRules):
    """Weights as in the file, caches and states of NumPy; values live for one run."""

    def weight_bytes(self, tensor: TensorShape) -> int:
        """Return the bytes that the tensor has in the file."""
        fmt = formats.get(_known(tensor.name, tensor.type_name))
        return prod(tensor.shape) // fmt.block_size * fmt.block_bytes

    def page_bytes(self, layer: LayerSizes, kv_dtype: str) -> int:
        """Return the bytes of one page of one layer of a cache."""
        return PAGE_TOKENS * cell_bytes(kv_dtype, [layer])

    def state_bytes(self, size: int) -> int:
        """Return the bytes of a state of float32."""
        return 4 * size

    def buffer_bytes(
        self, graph: Graph, tensors: Mapping[str, TensorShape], pools: PoolSizes, max_tokens: int
    ) -> int:
        """Return 0: nothing is kept between runs."""
        return 0


def _known(tensor: str, type_name: str) -> str:
    if type_name not in formats.names():
        raise BackendUnavailable(
            f"tensor {tensor!r}: the reference backend has no type {type_name}"
        )
    return type_name


class ReferenceStates(StatePool):
    """States as arrays [n_slots, size]."""

    def __init__(self, sizes: tuple[int, ...], n_slots: int) -> None:
        self.sizes, self.n_slots = sizes, n_slots
        self.arrays: list[Floats] = [np.zeros((n_slots, size), np.float32) for size in sizes]

    def read(self, slot: int, state: int) -> Floats:
        """Return a copy of a state."""
        return np.array(self.arrays[state][slot], np.float32)

    def write(self, slot: int, state: int, values: Floats) -> None:
        """Overwrite a state."""
        self.arrays[state][slot] = values

    def close(self) -> None:
        """Free the memory."""
        self.arrays = []


class ReferenceBackend(Backend):
    """Weights as they stand in the file, dequantized at every use."""

    name, description = "reference", f"NumPy {np.__version__}, to compare with"

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.weights: dict[str, Weight] = {}
        self._pools: list[ArrayPool] = []
        self.states = ReferenceStates((), 0)

    def add_weight(self, weight: Weight) -> None:
        """Copy a tensor; `BackendUnavailable` if its type has no format."""
        _known(weight.name, weight.type_name)
        data = np.array(weight.data, np.uint8)
        weight.release()
        self.weights[weight.name] = Weight(weight.name, weight.type_name, weight.shape, data)

    def new_pool(self, spec: CacheSpec, n_pages: int, kv_dtype: str) -> Pool:
        """Allocate a cache."""
        self._pools = [pool for pool in self._pools if pool.n_pages]
        self._pools.append(ArrayPool(spec, n_pages, kv_dtype, np.zeros))
        return self._pools[-1]

    def new_states(self, sizes: tuple[int, ...], n_slots: int) -> StatePool:
        """Allocate the states of a graph."""
        self.states = ReferenceStates(sizes, n_slots)
        return self.states

    def compile(
        self, graph: Graph, pools: Sequence[Pool], *, max_tokens: int, taps: frozenset[str]
    ) -> Program:
        """Check that every operation, weight, cache and tap of the graph is there."""
        for node in graph.nodes:
            _operation(node.op)
            missing = [name for name in node.weights if name and name not in self.weights]
            if missing:
                raise ValueError(f"node {node.name!r}: weights {missing} were not added")
        if [pool.spec for pool in pools] != list(graph.caches):
            raise ValueError(f"expected pools for {graph.caches}, got {[p.spec for p in pools]}")
        patterns = {f"{n.name}.pattern" for n in graph.nodes if n.op == "attention"}
        unknown = taps - patterns - graph.values().keys()
        if unknown:
            raise ValueError(f"no such hook points in this graph: {sorted(unknown)}")
        return ReferenceProgram(self, graph, pools, max_tokens, taps)

    def memory(self) -> dict[str, int]:
        """Return bytes held, by purpose."""
        caches = sum(pool.page_bytes * pool.n_pages for pool in self._pools)
        caches += sum(states.nbytes for states in self.states.arrays)
        weights = sum(weight.data.nbytes for weight in self.weights.values())
        return {"weights": weights, "caches": caches, "buffers": 0}

    def close(self) -> None:
        """Free everything."""
        self.weights.clear()
        for pool in self._pools:
            pool.close()
        self._pools.clear()
        self.states.close()

    def vector(self, name: str) -> Floats | None:
        """Return the float32 values of a weight, None for the name ""."""
        if not name:
            return None
        weight = self.weights[name]
        return formats.dequantize(weight.type_name, weight.data, weight.shape)


class ReferenceProgram(Program):
    """Runs nodes in order, keeping every value of a run."""

    def __init__(
        self,
        backend: ReferenceBackend,
        graph: Graph,
        pools: Sequence[Pool],
        max_tokens: int,
        taps: frozenset[str],
    ) -> None:
        self.backend, self.graph, self.max_tokens, self.taps = backend, graph, max_tokens, taps
        self.pools = [pool for pool in pools if isinstance(pool, ArrayPool)]

    def steps(self, batch: Batch, tap: Tap | None = None) -> Steps:
        """Run a batch; see `Program.steps`."""
        if len(batch.tokens) > self.max_tokens:
            raise ValueError(f"expected at most {self.max_tokens} tokens, got {len(batch.tokens)}")
        run = _Run(self, batch, tap)
        values: dict[int, Floats] = {}
        for node in self.graph.nodes:
            inputs = (values[value.id] for value in node.inputs)
            out = _operation(node.op)(run, node, *inputs)
            if node.name in self.taps:
                yield node.name
            values[node.outputs[0].id] = run.tapped(node.name, out)
        return values[self.graph.output.id]

    def close(self) -> None:
        """Free nothing: values live for one run."""


class _Run:
    """One run's inputs, and what operations need besides their input values."""

    def __init__(self, program: ReferenceProgram, batch: Batch, tap: Tap | None) -> None:
        self.batch, self.pools, self._tap = batch, program.pools, tap
        self._taps, self.backend = program.taps, program.backend
        self.vector = program.backend.vector

    def tapped(self, name: str, out: Floats) -> Floats:
        """Return `out`, or what the tap made of a copy of it."""
        if self._tap is None or name not in self._taps:
            return out
        out = np.array(out, np.float32)
        self._tap(name, out)
        return out

    def matmul(self, x: Floats, name: str) -> Floats:
        """Return x w^T."""
        w, precision = self.backend.weights[name], self.backend.precision
        return kernels.matmul(x, w.type_name, w.data, _pair(w.shape), precision=precision)

    def expert_matmul(self, x: Floats, ids: npt.NDArray[np.int32], name: str) -> Floats:
        """Return x w[e]^T for every expert e of `ids`: [T, k, N]."""
        w, precision = self.backend.weights[name], self.backend.precision
        e, n, k = w.shape
        return kernels.expert_matmul(x, ids, w.type_name, w.data, (e, n, k), precision=precision)


@cache
def _operation(op: str) -> Callable[..., Floats]:
    """Return the function of an operation: from the table below, or from its own file."""
    if op in _OPS:
        return _OPS[op]
    path = f"jitllm.backends.reference_ops.{op}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:  # the file is there, and imports what is not
            raise
        raise BackendUnavailable(f"the reference backend has no operation {op!r}") from None
    return cast("Callable[..., Floats]", module.run)


def _pair(shape: tuple[int, ...]) -> tuple[int, int]:
    n, k = shape
    return n, k


def _embed(run: _Run, node: Node) -> Floats:
    w = run.backend.weights[node.weights[0]]
    return kernels.embed(run.batch.tokens, w.type_name, w.data, _pair(w.shape))


def _matmul(run: _Run, node: Node, x: Floats) -> Floats:
    y = run.matmul(x, node.weights[0])
    bias = run.vector(node.weights[1])
    return y if bias is None else kernels.add(y, bias)


def _scale_by_position(run: _Run, node: Node, x: Floats) -> Floats:
    steps = (run.batch.positions + node.attrs["offset"]) // node.attrs["length"]
    factor = 1 + node.attrs["slope"] * np.log(steps + 1.0)
    return kernels.mul(x, factor.astype(np.float32)[:, None])


_OPS: dict[str, Callable[..., Floats]] = {
    "embed": _embed,
    "rms_norm": lambda run, node, x: kernels.rms_norm(
        x, run.vector(node.weights[0]), node.attrs["eps"], node.attrs["group"]
    ),
    "layer_norm": lambda run, node, x: kernels.layer_norm(
        x, run.vector(node.weights[0]), run.vector(node.weights[1]), node.attrs["eps"]
    ),
    "matmul": _matmul,
    "add_bias": lambda run, node, x: kernels.add(x, run.vector(node.weights[0])),
    "add": lambda run, node, a, b: kernels.add(a, b),
    "mul": lambda run, node, a, b: kernels.mul(a, b),
    "scale": lambda run, node, x: kernels.scale(x, node.attrs["factor"]),
    "soft_cap": lambda run, node, x: kernels.soft_cap(x, node.attrs["cap"]),
    "activation": lambda run, node, x: kernels.activation(x, node.attrs["act"]),
    "glu": lambda run, node, gate, up: kernels.glu(gate, up, node.attrs["act"]),
    "columns": lambda run, node, x: x[:, node.attrs["start"] : node.attrs["stop"]],
    "rope": lambda run, node, x: kernels.rope(x, run.batch.positions, **node.attrs),
    "scale_by_position": _scale_by_position,
    "select_outputs": lambda run, node, x: kernels.select_rows(x, run.batch.output_rows),
}
