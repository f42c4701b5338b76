"""What CUDA's lowering emits for an attention, found by lowering a graph that has one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_rows import Floats

from jitllm import backends
from jitllm.backends.base import Weight
from jitllm.llm.graph.builder import GraphBuilder

Kernel = tuple[str, tuple[int, ...]]  # name and constants
KERNELS = "attention", "attention_tile", "attention_merge"


@dataclass(frozen=True)
class Sizes:
    """Sizes of an attention, and of the cache that it reads."""

    dk: int
    dv: int
    group: int = 4
    kv_heads: int = 2
    pages: int = 4


def kernels_of(
    sizes: Sizes, kv: str = "f16", precision: str = "fast", **options: Any
) -> set[Kernel]:
    """Return all kernels that may run; `options` are those of `GraphBuilder.attention`."""
    heads, key_width = sizes.group * sizes.kv_heads, sizes.kv_heads * sizes.dk
    widths = {"q": heads * sizes.dk, "k": key_width, "v": sizes.kv_heads * sizes.dv}
    tensors: dict[str, Floats] = {
        name: np.zeros((1, width), np.float32) for name, width in widths.items()
    }
    tensors["sinks"] = np.zeros(heads, np.float32)
    g = GraphBuilder(tensors, tensors.__getitem__, 128)
    q, k, v = (g.embed(name, width=width, name=f"row of {name}") for name, width in widths.items())
    y = g.attention(
        q, k, v, n_heads=heads, n_kv_heads=sizes.kv_heads, scale=1.0, name="y", **options
    )
    g.select_outputs(y, name="outputs")
    graph = g.build()
    with _backend(precision) as backend:
        for name in {name for node in graph.nodes for name in node.weights if name}:
            values = tensors[name]
            backend.add_weight(Weight(name, "F32", values.shape, values.reshape(-1).view(np.uint8)))
        backend.new_states((), 1)
        pools = [backend.new_pool(spec, sizes.pages, kv) for spec in graph.caches]
        lowering = backend.lowering(
            graph, backend.weights, backend.vectors, pools, max_tokens=64, taps=frozenset(),
            states=backend._states,
        )  # fmt: skip
        lowering.lower()
        found = {
            (form.kernel, tuple(map(int, form.constants)))
            for dispatch in lowering.dispatches for form in dispatch.forms
        }  # fmt: skip
    return {kernel for kernel in found if kernel[0] in KERNELS}


@contextmanager
def _backend(precision: str) -> Iterator[Any]:
    backend = backends.open_backend("cuda", precision=precision)
    try:
        yield backend
    finally:
        backend.close()
