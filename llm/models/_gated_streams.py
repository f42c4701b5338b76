"""Several residual streams that are gated and averaged before every block.

Behind the block its result is added to each stream, weighted by the streams.

Source: Zhu et al., "Hyper-Connections", 2024; Qwen Team, "Qwen4-Exp", 2026.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import gated
from jitllm.llm.graph.words.heads import join_heads
from jitllm.llm.graph.words.ssm import column_scale


@dataclass(frozen=True)
class Streams:
    """The residual streams of a model: `n`, and the columns of their gate's middle `rank`."""

    n: int
    rank: int
    eps: float

    def repeat(self, g: GraphBuilder, x: Value, name: str) -> Value:
        """The same rows for every stream, side by side: [rows, n * width]."""
        y = x
        for c in range(1, self.n):
            y = join_heads(g, y, x, n_heads=1, name=name if c == self.n - 1 else f"{name}.{c}")
        return y

    def norm(self, g: GraphBuilder, x: Value, tensor: str, name: str) -> Value:
        """RMS norm of each stream, times weights for all columns (of any shape)."""
        shape = tuple(g.tensors[tensor].shape) if g.has(tensor) else ()
        fits = int(np.prod(shape)) == x.width
        weights = g.values(tensor, shape if fits else (self.n, x.width // self.n)).reshape(-1)
        y = g.rms_norm(x, "", eps=self.eps, group=x.width // self.n, name=f"{name}.rms")
        return column_scale(g, y, weights, name=name)

    def mix(self, g: GraphBuilder, streams: Value, prefix: str) -> tuple[Value, Value]:
        """Return the mean of the gated streams [rows, n], and the normalized streams."""
        normed = self.norm(g, streams, f"{prefix}_norm.weight", f"{prefix}_norm")
        low = g.matmul(normed, f"{prefix}_down.weight", width=self.rank, name=f"{prefix}_down")
        low = g.scale(low, 1 / self.n, name=f"{prefix}_down.scaled")
        low = g.activation(low, act="silu", name=f"{prefix}_act")
        gate = g.matmul(low, f"{prefix}_up.weight", width=streams.width, name=f"{prefix}_up")
        opened = gated(g, normed, gate, name=f"{prefix}_gated")
        size = streams.width // self.n
        total = g.columns(opened, 0, size, name=f"{prefix}_gated.0")
        for c in range(1, self.n):
            part = g.columns(opened, c * size, (c + 1) * size, name=f"{prefix}_gated.{c}")
            total = g.add(total, part, name=f"{prefix}_sum.{c}")
        return g.scale(total, 1 / self.n, name=f"{prefix}_mixed"), normed

    def around(
        self, g: GraphBuilder, streams: Value, prefix: str, block: Callable[[Value], Value]
    ) -> Value:
        """Return the streams with what `block` makes of their mean added: same shape."""
        x, normed = self.mix(g, streams, prefix)
        inject = g.matmul(normed, f"{prefix}_inject.weight", width=self.n, name=f"{prefix}_inject")
        inject = g.scale(inject, 1 / self.n, name=f"{prefix}_inject.scaled")
        y = self.repeat(g, block(x), f"{prefix}_repeated")
        y = g.scale(gated(g, y, inject, name=f"{prefix}_out"), 2.0, name=f"{prefix}_out.scaled")
        return g.add(streams, y, name=f"{prefix}_streams")


def streams_of(config: ModelConfig) -> Streams:
    """Return what the metadata say of streams; `ModelFormatError` if it cannot be."""
    meta = config.metadata
    n, rank = meta.get("hyper_connection.count", int), meta.get("hyper_connection.low_rank", int)
    if n < 2 or rank < 1:
        raise ModelFormatError(
            f"keys '{config.architecture}.hyper_connection.count' and '.low_rank': expected 2 or "
            f"more and 1 or more, got {n} and {rank}"
        )
    return Streams(n, rank, config.rms_norm_eps)
