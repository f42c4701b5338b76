"""Multi-head latent attention: keys and values of all heads from one small latent of a token.

A head's key is (W_k latent, rope part), its value W_v latent. q . W_k latent = (W_k^T q) . latent,
so with the queries multiplied by W_k^T ("absorbed"), all heads attend to one key (latent, rope
part) whose first columns are the value, and W_v follows. The cache holds that key and, beside it,
the latent once more as the value: 2 rank + rope numbers a token and layer.

Source: DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.rope import RopeScaling, Rotation, rotation
from jitllm.llm.graph.words.heads import head_columns, head_matmul, join_heads
from jitllm.llm.graph.words.sparse import sparse_attention
from jitllm.llm.models import _nn as nn


@dataclass(frozen=True)
class Latent:
    """Sizes and constants of the latent attention of a model.

    Attributes
    ----------
    q_rank : int
        Columns of the queries' own latent, 0 where they have none.
    rank : int
        Columns of the latent of keys and values.
    nope, rope : int
        Columns of a head that do not turn, and of those that do.
    v_dim : int
        Columns of a value head.
    is_absorbed : bool
        Whether the file has one key matrix for each head; else keys and values are made in full.
    rotation : Rotation
    scale : float
        Of the scores.
    slope, length : float, int
        Temperature of the queries by position; slope 0 for none.
    """

    q_rank: int
    rank: int
    nope: int
    rope: int
    v_dim: int
    is_absorbed: bool
    rotation: Rotation
    scale: float
    slope: float = 0.0
    length: int = 0

    @classmethod
    def from_config(
        cls,
        config: ModelConfig,
        *,
        suffix: str = "",
        turn: tuple[Rotation, float] | None = None,
        mscale_is_all: bool = False,
    ) -> "Latent":
        """Read the metadata.

        Parameters
        ----------
        config : ModelConfig
        suffix : str
            Of the keys of sizes, "_swa" for layers with a window.
        turn : (Rotation, float), optional
            Rotation and scale of the scores, by default those of `yarn`.
        mscale_is_all : bool
            For `yarn`.

        Raises
        ------
        ModelFormatError
            If a size is impossible.
        """
        meta, rope = config.metadata, config.rotary_dim
        k_dim = meta.get(f"attention.key_length_mla{suffix}", int, 0)
        v_dim = meta.get(f"attention.value_length_mla{suffix}", int, 0)
        is_absorbed = k_dim > 0 and v_dim > 0
        if not is_absorbed:
            k_dim, v_dim = config.head_dim, config.v_head_dim
        rank = meta.get(f"attention.kv_lora_rank{suffix}", int)
        if not 0 < rope < k_dim or rank < 1 or rank % 16:
            raise ModelFormatError(
                f"{config.architecture}: expected attention.kv_lora_rank{suffix} in steps of 16, "
                "and rope.dimension_count from 1 to below the key length; got "
                f"{rank}, {rope}, {k_dim}"
            )
        turn = turn or yarn(config, k_dim, mscale_is_all=mscale_is_all)
        slope = meta.get("attention.temperature_scale", float, 0.0)
        return cls(
            q_rank=meta.get("attention.q_lora_rank", int, 0),
            rank=rank,
            nope=k_dim - rope,
            rope=rope,
            v_dim=v_dim,
            is_absorbed=is_absorbed,
            rotation=turn[0],
            scale=turn[1],
            slope=slope,
            length=meta.get("attention.temperature_length", int) if slope else 0,
        )


def yarn(
    config: ModelConfig, k_dim: int, *, mscale_is_all: bool = False, kind: str = "norm"
) -> tuple[Rotation, float]:
    """Return the rotation and the scale of the scores for keys of `k_dim` columns.

    `mscale_is_all`: YaRN's `mscale` equals its `mscale_all_dim`, which the file has; else it is 1.
    DeepSeek's YaRN multiplies the scores by the square of 0.1 mscale_all_dim ln(factor) + 1, and
    cosine and sine by the quotient of that with mscale and with mscale_all_dim. Files hold 0.1
    mscale_all_dim. Where they hold nothing, the common YaRN magnitude stands for both.
    """
    scaling = config.rope_scaling
    stretch = math.log(scaling.factor)
    multiplier = scaling.log_multiplier / 0.1
    if mscale_is_all and multiplier:
        # Equal mscales cancel: what `rotation` makes of a multiplier of 1.
        turn = _rotation(config, kind, replace(scaling, log_multiplier=1.0))
    else:
        turn = _rotation(config, kind, replace(scaling, log_multiplier=multiplier))
    magnitude = turn.magnitude
    if scaling.type not in ("yarn", "none"):
        magnitude *= 1 + 0.1 * stretch  # as llama.cpp does for all other kinds
    magnitude *= 1 + 0.1 * multiplier * (stretch if scaling.type != "none" else 0.0)
    return turn, magnitude**2 / math.sqrt(k_dim)


def _rotation(config: ModelConfig, kind: str, scaling: RopeScaling) -> Rotation:
    return rotation(kind, config.rotary_dim, config.rope_theta, scaling)


def query_latent(g: GraphBuilder, x: Value, config: ModelConfig, mla: Latent, i: int) -> Value:
    """Return the normalized latent of the queries: [T, q_rank]; x itself where there is none."""
    name = f"blk.{i}.attn_q_a"
    if not mla.q_rank or not g.has(f"{name}.weight"):
        return x
    x = g.matmul(x, f"{name}.weight", name=name, width=mla.q_rank)
    return nn.rms_norm(g, x, config, f"{name}_norm")


def queries(g: GraphBuilder, latent: Value, config: ModelConfig, mla: Latent, i: int) -> Value:
    """Return the queries before rope: [T, H * (nope + rope)]."""
    width = config.num_attention_heads[i] * (mla.nope + mla.rope)
    tensor = f"blk.{i}.attn_q"
    if not g.has(f"{tensor}.weight"):
        tensor += "_b"
    return g.matmul(latent, f"{tensor}.weight", name=f"blk.{i}.attn_q", width=width)


def keys(
    g: GraphBuilder, x: Value, config: ModelConfig, mla: Latent, i: int
) -> tuple[Value, Value]:
    """Return the latent of keys and values [T, rank], and the turned part of keys [T, rope]."""
    name = f"blk.{i}.attn_kv_a"
    both = g.matmul(x, f"{name}_mqa.weight", name=f"{name}_mqa", width=mla.rank + mla.rope)
    latent = g.columns(both, 0, mla.rank, name=name)
    latent = nn.rms_norm(g, latent, config, f"{name}_norm")
    part = g.columns(both, mla.rank, mla.rank + mla.rope, name=f"blk.{i}.attn_k_pe")
    if g.has(f"blk.{i}.attn_k_norm.weight"):
        part = nn.rms_norm(g, part, config, f"blk.{i}.attn_k_norm")
    return latent, g.rope(part, mla.rotation, n_heads=1, name=f"blk.{i}.attn_k_pe_rope")


def parts_of_queries(
    g: GraphBuilder, q: Value, config: ModelConfig, mla: Latent, i: int
) -> tuple[Value, Value]:
    """Return the columns of all heads that do not turn [T, H * nope] and, turned, those that do."""
    n_heads, name = config.num_attention_heads[i], f"blk.{i}.attn_q"
    nope = head_columns(g, q, 0, mla.nope, n_heads=n_heads, name=f"{name}_nope")
    end = mla.nope + mla.rope
    part = head_columns(g, q, mla.nope, end, n_heads=n_heads, name=f"{name}_pe")
    return nope, g.rope(part, mla.rotation, n_heads=n_heads, name=f"{name}_pe_rope")


def attend(
    g: GraphBuilder, x: Value, latent: Value, config: ModelConfig, mla: Latent, i: int
) -> Value:
    """Attention of normalized x [T, n] and its query latent, with the output matrix: [T, n]."""
    return output(g, heads(g, x, latent, config, mla, i), config, i)


def heads(
    g: GraphBuilder, x: Value, latent: Value, config: ModelConfig, mla: Latent, i: int,
    *, chosen: Value | None = None, window: int = 0, sinks: str = "",
) -> Value:  # fmt: skip
    """What the heads give to the output matrix: [T, H * v_dim].

    Parameters
    ----------
    g : GraphBuilder
    x, latent : Value
        Normalized rows [T, n], and what `query_latent` made of them.
    config : ModelConfig
    mla : Latent
    i : int
        The layer.
    chosen : Value, optional
        Positions to attend to, from `words.sparse`. Such keys are absorbed ones, and so are those
        of layers with a window or sinks.
    window : int
        Positions that a query sees, itself included; 0 for all.
    sinks : str
        Tensor (H,) of one more logit of each head, in the denominator only; or "".
    """
    q = queries(g, latent, config, mla, i)
    nope, pe = parts_of_queries(g, q, config, mla, i)
    kv, k_pe = keys(g, x, config, mla, i)
    if not mla.is_absorbed:
        return _in_full(g, nope, pe, kv, k_pe, config, mla, i)
    q = absorbed_query(g, nope, pe, config, mla, i)
    k = latent_key(g, kv, k_pe, i)
    common: dict[str, Any] = {
        "n_heads": config.num_attention_heads[i], "n_kv_heads": 1, "scale": mla.scale,
        "sinks": sinks, "name": f"blk.{i}.kqv_latent",
    }  # fmt: skip
    if chosen is None:
        z = g.attention(q, k, kv, window=window, **common)
    else:
        z = sparse_attention(g, q, k, None, chosen, v_head_dim=mla.rank, **common)
    return values_of_heads(g, z, config, mla, i)


def absorbed_query(
    g: GraphBuilder, nope: Value, pe: Value, config: ModelConfig, mla: Latent, i: int
) -> Value:
    """Return the queries that the latent keys are compared with: [T, H * (rank + rope)]."""
    n_heads, blk = config.num_attention_heads[i], f"blk.{i}."
    q = head_matmul(
        g, nope, blk + "attn_k_b.weight", n_heads=n_heads, width=mla.rank,
        name=blk + "attn_q_absorbed",
    )  # fmt: skip
    q = join_heads(g, q, pe, n_heads=n_heads, name=blk + "attn_q_latent")
    return _tempered(g, q, mla, i)


def latent_key(g: GraphBuilder, kv: Value, k_pe: Value, i: int) -> Value:
    """Return the one key of all heads: [T, rank + rope]."""
    return join_heads(g, kv, k_pe, n_heads=1, name=f"blk.{i}.attn_k_latent")


def values_of_heads(g: GraphBuilder, z: Value, config: ModelConfig, mla: Latent, i: int) -> Value:
    """Return the values of heads [T, H * v_dim] from attended latents z [T, H * rank]."""
    return head_matmul(
        g, z, f"blk.{i}.attn_v_b.weight", n_heads=config.num_attention_heads[i], width=mla.v_dim,
        name=f"blk.{i}.kqv_out",
    )  # fmt: skip


def output(g: GraphBuilder, z: Value, config: ModelConfig, i: int) -> Value:
    """Return the heads' results z [T, H * v_dim] times the output matrix: [T, n]."""
    names = f"blk.{i}.attn_output", f"blk.{i}.attn_out"
    return nn.linear(g, z, names[0], config.hidden_size, bias=False, as_name=names[1])


def _in_full(
    g: GraphBuilder, nope: Value, pe: Value, kv: Value, k_pe: Value, config: ModelConfig,
    mla: Latent, i: int,
) -> Value:  # fmt: skip
    n_heads, blk, end = config.num_attention_heads[i], f"blk.{i}.", mla.nope + mla.v_dim
    both = g.matmul(kv, blk + "attn_kv_b.weight", name=blk + "attn_kv_b", width=n_heads * end)
    k = head_columns(g, both, 0, mla.nope, n_heads=n_heads, name=blk + "attn_k_nope")
    k = join_heads(g, k, k_pe, n_heads=n_heads, shared=True, name=blk + "attn_k")
    v = head_columns(g, both, mla.nope, end, n_heads=n_heads, name=blk + "attn_v")
    q = join_heads(g, nope, pe, n_heads=n_heads, name=blk + "attn_q_rope")
    return g.attention(
        _tempered(g, q, mla, i), k, v, n_heads=n_heads, n_kv_heads=n_heads, scale=mla.scale,
        name=blk + "kqv_out",
    )  # fmt: skip


def _tempered(g: GraphBuilder, q: Value, mla: Latent, i: int) -> Value:
    if not mla.slope:
        return q
    name = f"blk.{i}.attn_q_scaled"
    return g.scale_by_position(q, slope=mla.slope, length=mla.length, name=name)
