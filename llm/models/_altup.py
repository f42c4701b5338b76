"""Layers that see one of several residual streams: alternating updates.

Source: Baykal et al., "Alternating Updates for Efficient Transformers", 2023.
"""

from dataclasses import dataclass

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.altup import match_rms, weighted_add
from jitllm.llm.graph.words.heads import head_matmul, join_heads
from jitllm.llm.graph.words.ssm import column_scale
from jitllm.llm.models import _nn as nn

STREAMS = 4  # of files that do not say


@dataclass(frozen=True)
class Streams:
    """The residual streams: values [rows, n] in a list.

    Attributes
    ----------
    n : int
        How many there are.
    active : int
        Number of the one that layers see. After layer i it is called "blk.{i}.l_out", others have
        their number behind that.
    """

    n: int
    active: int

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Streams":
        """Read the metadata."""
        meta = config.metadata
        n, active = meta.get("altup.num_inputs", int, STREAMS), meta.get("altup.active_idx", int, 0)
        if n < 2 or not 0 <= active < n:
            raise ModelFormatError(
                f"keys '{config.architecture}.altup.num_inputs' and '.altup.active_idx': expected "
                f"two or more and a number below that, got {n} and {active}"
            )
        return cls(n, active)

    def start(self, g: GraphBuilder, x: Value) -> list[Value]:
        """Return x and its products with a matrix for each further stream, all equally large."""
        return [x, *self._projected(g, [x] * (self.n - 1), x, "altup_proj")]

    def end(self, g: GraphBuilder, streams: list[Value]) -> Value:
        """Return the mean of the first stream and of products with the others: [rows, n]."""
        x, *others = streams
        parts = self._projected(g, others, x, "altup_unembd_proj")
        for c, part in enumerate(parts, 1):
            x = g.add(x, part, name=f"altup_sum.{c}")
        return g.scale(x, 1 / self.n, name="altup_mean")

    def _projected(self, g: GraphBuilder, xs: list[Value], like: Value, tensor: str) -> list[Value]:
        width, joined = like.width, xs[0]
        for c, x in enumerate(xs[1:], 2):
            joined = join_heads(g, joined, x, n_heads=1, name=f"{tensor}_in.{c}")
        y = head_matmul(g, joined, f"{tensor}.weight", n_heads=len(xs), width=width, name=tensor)
        y = match_rms(g, y, like, name=f"{tensor}_matched")
        return [
            g.columns(y, c * width, (c + 1) * width, name=f"{tensor}.{c + 1}")
            for c in range(len(xs))
        ]

    def predict(self, g: GraphBuilder, xs: list[Value], config: ModelConfig, i: int) -> list[Value]:
        """Return what the streams are behind layer i, as far as those before it tell."""
        name = f"blk.{i}.altup_predict"
        gates = self._gates(g, xs[self.active], config, name, i)
        return [
            weighted_add(g, x, xs, gates, start=c * self.n, name=f"{name}.{c}")
            for c, x in enumerate(xs)
        ]

    def correct(
        self, g: GraphBuilder, xs: list[Value], seen: Value, config: ModelConfig, i: int
    ) -> list[Value]:
        """Return predicted streams, each moved by how far the active one is from `seen`."""
        name = f"blk.{i}.altup_correct"
        gates = self._gates(g, seen, config, name, i)
        minus = g.scale(xs[self.active], -1.0, name=f"{name}.minus")
        moved = g.add(seen, minus, name=f"{name}.moved")
        # nothing is added to the first stream afterwards
        names = [self._name(0, i), *(f"{name}.{c}" for c in range(1, self.n))]
        return [
            weighted_add(g, x, [moved], gates, start=c, shift=1.0, name=names[c])
            for c, x in enumerate(xs)
        ]

    def _gates(self, g: GraphBuilder, x: Value, config: ModelConfig, name: str, i: int) -> Value:
        """Weights for the sums: [rows, n^2] or [rows, n]."""
        blk, what = f"blk.{i}.", name.rpartition("_")[2]
        width = self.n * self.n if what == "predict" else self.n
        h = nn.rms_norm(g, x, config, f"{name}.norm", blk + "altup_router_norm")
        h = g.matmul(h, blk + "altup_router.weight", width=self.n, name=f"{name}.router")
        h = g.scale(h, 1 / x.width, name=f"{name}.router_scaled")
        h = g.activation(h, act="tanh", name=f"{name}.modalities")
        return g.matmul(h, f"{name}_coef.weight", width=width, name=f"{name}.coefs")

    def scaled(self, g: GraphBuilder, x: Value, i: int) -> Value:
        """The active stream x, each column times a factor: [rows, n]."""
        name = f"blk.{i}.altup_correct_scale"
        return column_scale(g, x, g.values(f"{name}.weight", (x.width,)), name=name)

    def add(self, g: GraphBuilder, xs: list[Value], h: Value, i: int) -> list[Value]:
        """Return the streams, with h [rows, n] added to all but the first."""
        return [xs[0], *(g.add(x, h, name=self._name(c, i)) for c, x in enumerate(xs[1:], 1))]

    def _name(self, stream: int, i: int) -> str:
        return f"blk.{i}.l_out" + (f".{stream}" if stream != self.active else "")
