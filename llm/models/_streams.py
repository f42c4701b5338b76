"""Layers around several residual streams: hyper-connections.

Source: Zhu et al., "Hyper-Connections", 2024; DeepSeek-AI, "mHC: Manifold-Constrained
Hyper-Connections", 2025.
"""

from dataclasses import dataclass
from typing import Self

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words import streams as words
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


@dataclass(frozen=True)
class Streams:
    """How streams are read and written.

    Attributes
    ----------
    n : int
        How many there are.
    eps : float
        Added to what is read of a stream, and to the sums of a mix.
    magnitude, post_eps : float
        What is written is `magnitude` times a sigmoid, + `post_eps`.
    iterations : int
        Of the mix of streams; 0 for no mix.
    """

    n: int
    eps: float
    magnitude: float
    post_eps: float = 0.0
    iterations: int = 0

    @classmethod
    def mixed(cls, config: ModelConfig) -> Self:
        """Return streams that are mixed, too, as the metadata say."""
        meta = config.metadata
        return cls(
            n=meta.get("hyper_connection.count", int),
            eps=meta.get("hyper_connection.epsilon", float),
            magnitude=2.0,
            iterations=meta.get("hyper_connection.sinkhorn_iterations", int),
        )

    def gates(
        self, g: GraphBuilder, x: Value, config: ModelConfig, prefix: str, n_parts: int
    ) -> Value:
        """Gates from the tensors `prefix`_fn, _scale and _base, for the first `n_parts` uses."""
        width = sum([self.n, self.n, self.n * self.n][:n_parts])
        h = g.rms_norm(x, "", eps=config.rms_norm_eps, name=f"{prefix}_norm")
        h = g.matmul(h, f"{prefix}_fn.weight", width=width, name=f"{prefix}_fn")
        return words.stream_gates(
            g, h, n_streams=self.n, scale=g.values(f"{prefix}_scale.weight", (n_parts,)),
            base=g.values(f"{prefix}_base.weight", (width,)), eps=self.eps,
            magnitude=self.magnitude, post_eps=self.post_eps,
            iterations=self.iterations if n_parts == 3 else 0, name=f"{prefix}_gates",
        )  # fmt: skip


def layers(
    g: GraphBuilder,
    config: ModelConfig,
    streams: Streams,
    attention: stack.Block,
    network: stack.Block,
    ffn_norm: str = "ffn_norm",
    *,
    n_layers: int = 0,
) -> None:
    """Add embeddings, layers whose two blocks read and write the streams, and logits.

    `n_layers` is how many layers there are, by default those that predict the next token.
    """
    blocks = stack.Blocks(attention, network, ffn_norm)
    x = words.new_streams(g, nn.embeddings(g, config), streams.n, name="streams")
    for i in range(n_layers or stack.n_layers_of(config)):
        x = layer(g, x, config, streams, blocks, i)
    x = nn.rms_norm(g, read_outputs(g, x, config, streams), config, "output_norm")
    g.matmul(x, "output.weight", width=config.vocab_size, name="output")


def layer(
    g: GraphBuilder, x: Value, config: ModelConfig, streams: Streams, blocks: stack.Blocks, i: int
) -> Value:
    """A layer whose two blocks read and write the streams x: [T, streams * n]."""
    blk, n_parts = f"blk.{i}.", 3 if streams.iterations else 2
    parts = ("attn", "attn_norm", blocks.attention), ("ffn", blocks.ffn_norm, blocks.network)
    for (part, norm, block), out in zip(parts, ("ffn_inp", "l_out"), strict=True):
        gates = streams.gates(g, x, config, f"{blk}hc_{part}", n_parts)
        h = words.stream_read(g, x, gates, n_streams=streams.n, name=f"{blk}hc_{part}_in")
        h = block(nn.rms_norm(g, h, config, f"{blk}{part}_norm", blk + norm), i)
        x = words.stream_write(g, h, x, gates, n_streams=streams.n, name=blk + out)
    return x


def read_outputs(g: GraphBuilder, x: Value, config: ModelConfig, streams: Streams) -> Value:
    """What the final norm reads of the streams x, wanted rows only: [O, n]."""
    x = g.select_outputs(x, name="output_rows")
    gates = streams.gates(g, x, config, "output_hc", 1)
    return words.stream_read(g, x, gates, n_streams=streams.n, name="output_hc")
