"""Layers of the Mamba family: a convolution, then a state that decays as the token says.

Every function adds nodes for layer i under the prefix "blk.{i}.".
Sources: Gu and Dao, "Mamba", 2023; Dao and Gu, "Transformers are SSMs" (Mamba-2), 2024.
"""

from dataclasses import dataclass

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.heads import columns
from jitllm.llm.graph.words.ssm import (
    causal_conv,
    column_scale,
    selective_scan,
    squeezed,
    ssm_scan,
)
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _stack as stack


@dataclass(frozen=True)
class StateSpace:
    """Sizes of the recurrent layers, under the names of the papers.

    Attributes
    ----------
    d_inner : int
        Columns of the inner stream.
    d_state : int
        Numbers of the state for each of these columns.
    d_conv : int
        Tokens that the convolution sees.
    dt_rank : int
        Columns of the projection that steps are made of; in the second form the heads.
    n_groups : int
        Sets of vectors that write and read the states; 0 where there is one.
    """

    d_inner: int
    d_state: int
    d_conv: int
    dt_rank: int
    n_groups: int

    @classmethod
    def of(cls, config: ModelConfig) -> "StateSpace":
        """Read the sizes; ModelFormatError if they fit no model."""
        meta = config.metadata
        names = ("inner_size", "state_size", "conv_kernel", "time_step_rank")
        inner, state, conv, rank = sizes = [meta.get(f"ssm.{name}", int) for name in names]
        groups = meta.get("ssm.group_count", int, 0)
        if min(sizes) < 1 or conv < 2 or groups < 0:
            raise ModelFormatError(
                f"keys '{meta.architecture}.ssm.*': expected positive sizes and a convolution over "
                f"at least 2 tokens, got {dict(zip(names, sizes, strict=True))}, {groups} groups"
            )
        return cls(inner, state, conv, rank, groups)

    def check_heads(self, config: ModelConfig) -> None:
        """Raise ModelFormatError unless heads and groups divide the inner stream."""
        if self.d_inner % self.dt_rank or (self.n_groups and self.dt_rank % self.n_groups):
            raise ModelFormatError(
                f"keys '{config.architecture}.ssm.*': expected an inner size of whole heads in "
                f"whole groups, got {self.d_inner}, {self.dt_rank} heads, {self.n_groups} groups"
            )


def _bare(g: GraphBuilder, *names: str) -> str:
    """Return the first of some tensor names that is in the file, "" if there is none."""
    return next((name for name in names if g.has(name)), "")


def single_blocks(g: GraphBuilder, config: ModelConfig, block: stack.Block) -> None:
    """Add embeddings, layers of one block each and logits.

    `block` gets normalized rows [T, n] and the number of the layer, and returns rows [T, n].
    """
    x = nn.embeddings(g, config)
    for i in range(stack.n_layers_of(config)):
        h = block(nn.rms_norm(g, x, config, f"blk.{i}.attn_norm"), i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    lm_head.logits(g, x, config)


def mamba(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A layer of the first form: [T, n]. Norms of steps and vectors are used if there are any."""
    blk, ssm = f"blk.{i}.", StateSpace.of(config)
    inner, rank, size = ssm.d_inner, ssm.dt_rank, ssm.d_state
    xz = nn.linear(g, x, blk + "ssm_in", 2 * inner, bias=False)
    z = g.columns(xz, inner, 2 * inner, name=blk + "ssm_z")
    x = causal_conv(
        g, g.columns(xz, 0, inner, name=blk + "ssm_xin"), blk + "ssm_conv1d.weight",
        taps=ssm.d_conv, bias=blk + "ssm_conv1d.bias", act="silu", name=blk + "ssm_conv1d",
    )  # fmt: skip
    parts = g.matmul(x, blk + "ssm_x.weight", width=rank + 2 * size, name=blk + "ssm_x")
    step = columns(g, parts, 0, rank, name=blk + "ssm_dt_in")
    b = columns(g, parts, rank, rank + size, name=blk + "ssm_b")
    c = columns(g, parts, rank + size, rank + 2 * size, name=blk + "ssm_c")
    if config.metadata.get("ssm.dt_b_c_rms", bool, False) or g.has(blk + "ssm_dt_norm.weight"):
        step, b, c = normed_parts(g, step, b, c, config, i)
    step = g.matmul(
        step, blk + "ssm_dt.weight", width=inner, bias=blk + "ssm_dt.bias", name=blk + "ssm_dt"
    )  # fmt: skip
    y = selective_scan(g, x, b, c, step, a=blk + "ssm_a", d=blk + "ssm_d", name=blk + "ssm_scan")
    y = g.glu(z, y, act="silu", name=blk + "ssm_gated")
    return nn.linear(g, y, blk + "ssm_out", config.hidden_size, bias=False)


def normed_parts(
    g: GraphBuilder, step: Value, b: Value, c: Value, config: ModelConfig, i: int
) -> tuple[Value, Value, Value]:
    """RMS norms of what steps are made of and of the vectors, with weights if there are any."""

    def normed(x: Value, part: str) -> Value:
        name = f"blk.{i}.ssm_{part}_norm"
        weight = _bare(g, f"{name}.weight", name)
        return g.rms_norm(x, weight, eps=config.rms_norm_eps, name=name)

    return normed(step, "dt"), normed(b, "b"), normed(c, "c")


def mamba2(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    """A layer of the second form: [T, n]."""
    blk, ssm = f"blk.{i}.", StateSpace.of(config)
    ssm.check_heads(config)
    groups, heads, inner = max(1, ssm.n_groups), ssm.dt_rank, ssm.d_inner
    wide = inner + 2 * groups * ssm.d_state
    parts = nn.linear(g, x, blk + "ssm_in", inner + wide + heads, bias=False)
    z = g.columns(parts, 0, inner, name=blk + "ssm_z")
    step = columns(g, parts, inner + wide, inner + wide + heads, name=blk + "ssm_dt")
    xbc = causal_conv(
        g, columns(g, parts, inner, inner + wide, name=blk + "ssm_xbc"),
        blk + "ssm_conv1d.weight", taps=ssm.d_conv, bias=g.optional(blk + "ssm_conv1d.bias"),
        act="silu", name=blk + "ssm_conv1d",
    )  # fmt: skip
    middle = inner + groups * ssm.d_state
    y = ssm_scan(
        g,
        g.columns(xbc, 0, inner, name=blk + "ssm_x"),
        columns(g, xbc, inner, middle, name=blk + "ssm_b"),
        columns(g, xbc, middle, wide, name=blk + "ssm_c"),
        n_heads=heads,
        n_groups=groups,
        a=squeezed(g, blk + "ssm_a", heads),
        d=squeezed(g, blk + "ssm_d", heads),
        step=step,
        step_bias=g.values(blk + "ssm_dt.bias", (heads,)),
        name=blk + "ssm_scan",
    )
    y = g.glu(z, y, act="silu", name=blk + "ssm_gated")
    if g.has(blk + "ssm_norm.weight"):
        y = group_norm(g, y, config, blk + "ssm_norm", groups)
    return nn.linear(g, y, blk + "ssm_out", config.hidden_size, bias=False)


def group_norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str, n_groups: int) -> Value:
    """RMS norm over each of `n_groups` parts of x, with weights (groups, width of a part)."""
    size = x.width // n_groups
    y = g.rms_norm(x, "", eps=config.rms_norm_eps, group=size, name=f"{name}.unscaled")
    weights = g.values(f"{name}.weight", (n_groups, size)).reshape(-1)
    return column_scale(g, y, np.ascontiguousarray(weights), name=name)
