"""Kimi delta attention: a delta net whose state decays row by row, in turns with latent attention.

Source: Kimi Team, "Kimi Linear", 2025.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.delta_net import decay_gate, delta_net, gated, l2_norm
from jitllm.llm.graph.words.row_dot import project
from jitllm.llm.graph.words.ssm import causal_conv, squeezed
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _stack as stack

Block = Callable[[Value, int], Value]


@dataclass(frozen=True)
class Kda:
    """Sizes and constants of the delta attention of a model.

    Attributes
    ----------
    n_heads, head_dim : int
    taps : int
        Tokens that the short convolutions see.
    l2_eps : float
        Added to the squared length of queries and keys.
    sign : float
        1 if `ssm_a` holds the rates of `decay_gate`, -1 if it holds them with the other sign.
    bound : float or None
        As for `decay_gate`.
    """

    n_heads: int
    head_dim: int
    taps: int
    l2_eps: float
    sign: float = 1.0
    bound: float | None = None

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Kda":
        """Read the sizes; `ModelFormatError` if they cannot be."""
        meta = config.metadata
        kda = cls(
            n_heads=max(config.num_attention_heads),  # delta layers may say 0
            head_dim=meta.get("kda.head_dim", int),
            taps=meta.get("ssm.conv_kernel", int),
            l2_eps=config.rms_norm_eps,
        )
        if min(kda.n_heads, kda.head_dim, kda.taps - 1) < 1:
            raise ModelFormatError(
                f"{config.architecture}: expected heads, kda.head_dim of 1 or more and "
                f"ssm.conv_kernel of 2 or more, got {kda}"
            )
        return kda

    def bounded(self, config: ModelConfig, sign: float) -> "Kda":
        """Return this with the bound of the metadata, if there is one."""
        bound = config.metadata.get("kda.gate_lower_bound", float, -np.inf)
        return self if bound == -np.inf else replace(self, bound=bound, sign=sign)

    @property
    def width(self) -> int:
        """Columns of queries, of keys and of values."""
        return self.n_heads * self.head_dim


def delta_layers(config: ModelConfig) -> tuple[bool, ...]:
    """Whether each layer of the model itself has delta attention: those without key heads."""
    n_layers = stack.n_layers_of(config)
    return tuple(n == 0 for n in config.num_key_value_heads[:n_layers])


def without_rope(latent: mla.Latent) -> mla.Latent:
    """Return latent attention whose columns do not turn."""
    still = replace(latent.rotation, frequencies=np.zeros(latent.rope // 2, np.float32))
    return replace(latent, rotation=replace(still, magnitude=1.0))


def attend(g: GraphBuilder, x: Value, config: ModelConfig, kda: Kda, i: int) -> Value:
    """Delta attention of normalized x [T, n] with its output matrix: [T, n]."""
    blk = f"blk.{i}."
    q, k, v = (_convolved(g, part, kda, i, letter) for letter, part in _qkv(g, x, kda, i).items())
    q, k = (
        l2_norm(g, part, group=kda.head_dim, eps=kda.l2_eps, name=f"{blk}ssm_{letter}_normed")
        for letter, part in (("q", q), ("k", k))
    )
    beta = project(g, x, blk + "ssm_beta.weight", kda.n_heads, name=blk + "ssm_beta")
    beta = g.activation(beta, act="sigmoid", name=blk + "ssm_beta_sigmoid")
    y = delta_net(
        g, q, k, v, _decay(g, x, kda, i), beta, n_heads=kda.n_heads, n_key_heads=kda.n_heads,
        scale=kda.head_dim**-0.5, name=blk + "ssm_y",
    )  # fmt: skip
    y = g.rms_norm(
        y, blk + "ssm_norm.weight", eps=config.rms_norm_eps, group=kda.head_dim,
        name=blk + "ssm_norm",
    )  # fmt: skip
    gate = g.has(blk + "ssm_g.weight")
    y = gated(g, y, _low_rank(g, x, "ssm_g", not gate, kda, i), name=blk + "ssm_gated")
    name = blk + "attn_output"
    return g.matmul(y, f"{name}.weight", width=config.hidden_size, name=blk + "attn_out")


def _qkv(g: GraphBuilder, x: Value, kda: Kda, i: int) -> dict[str, Value]:
    """Queries, keys and values before their convolutions; their matrices may be one."""
    name = f"blk.{i}.attn_"
    if not g.has(f"{name}qkv.weight"):
        return {
            letter: g.matmul(x, f"{name}{letter}.weight", width=kda.width, name=name + letter)
            for letter in "qkv"
        }
    fused = g.matmul(x, f"{name}qkv.weight", width=3 * kda.width, name=f"{name}qkv")
    return {
        letter: g.columns(fused, j * kda.width, (j + 1) * kda.width, name=name + letter)
        for j, letter in enumerate("qkv")
    }


def _convolved(g: GraphBuilder, x: Value, kda: Kda, i: int, letter: str) -> Value:
    tensor = f"blk.{i}.ssm_conv1d_{letter}.weight"
    return causal_conv(g, x, tensor, taps=kda.taps, act="silu", name=f"blk.{i}.ssm_{letter}")


def _low_rank(g: GraphBuilder, x: Value, tensor: str, is_split: bool, kda: Kda, i: int) -> Value:
    """x times one matrix, or times `tensor`_a and, where the file has it, `tensor`_b."""
    name = f"blk.{i}.{tensor}"
    if not is_split:
        return g.matmul(x, f"{name}.weight", width=kda.width, name=name)
    if not g.has(f"{name}_b.weight"):
        return g.matmul(x, f"{name}_a.weight", width=kda.width, name=f"{name}_a")
    x = g.matmul(x, f"{name}_a.weight", width=-1, name=f"{name}_a")
    return g.matmul(x, f"{name}_b.weight", width=kda.width, name=f"{name}_b")


def _decay(g: GraphBuilder, x: Value, kda: Kda, i: int) -> Value:
    blk = f"blk.{i}."
    x = _low_rank(g, x, "ssm_f", True, kda, i)
    rate = kda.sign * squeezed(g, blk + "ssm_a", kda.n_heads)
    return decay_gate(g, x, rate, blk + "ssm_dt.bias", bound=kda.bound, name=blk + "ssm_decay")


def gated_latent(
    g: GraphBuilder, x: Value, config: ModelConfig, latent: mla.Latent, width: int, i: int
) -> Value:
    """Latent attention whose result is multiplied by sigmoid of a gate of x: [T, n].

    `width` is that of the gate: one column for each head, or for each of their columns.
    """
    blk, heads = f"blk.{i}.", config.num_attention_heads[i]
    q = mla.queries(g, mla.query_latent(g, x, config, latent, i), config, latent, i)
    nope, pe = mla.parts_of_queries(g, q, config, latent, i)
    kv, k_pe = mla.keys(g, x, config, latent, i)
    q = mla.absorbed_query(g, nope, pe, config, latent, i)
    k = mla.latent_key(g, kv, k_pe, i)
    z = g.attention(
        q, k, kv, n_heads=heads, n_kv_heads=1, scale=latent.scale, name=blk + "kqv_latent"
    )
    z = mla.values_of_heads(g, z, config, latent, i)
    gate = blk + "attn_gate"
    if g.has(f"{gate}.weight"):
        z = gated(g, z, project(g, x, f"{gate}.weight", width, name=gate), name=blk + "kqv_gated")
    name = blk + "attn_output"
    return g.matmul(z, f"{name}.weight", width=config.hidden_size, name=blk + "attn_out")
