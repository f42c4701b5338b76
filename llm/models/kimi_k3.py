"""Kimi K3, its language model: "kimi-k3".

Layers read not the sum of all layers before but a mean, weighted by scores of their own, of what
that sum was at the start of each block of layers, and of the sum in the current block.

Source: Kimi Team, "Attention Residuals", 2026, and "Kimi Linear", 2025.
"""

from dataclasses import dataclass, field, replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.row_dot import row_dot
from jitllm.llm.graph.words.softmax_mix import softmax_mix
from jitllm.llm.models import _kda as kda
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn


@dataclass
class Residuals:
    """The sums at the starts of blocks of layers; `block` 0: no blocks, one sum for all layers."""

    block: int
    eps: float
    kept: list[Value] = field(default_factory=list)
    _normed: dict[int, Value] = field(default_factory=dict)

    def mix(self, g: GraphBuilder, x: Value, tensor: str) -> Value:
        """Return the mean of the kept sums and x [T, n], by scores from `tensor`.weight: [T, n]."""
        if not self.kept:
            return x
        values = [*self.kept, x]
        scores = [
            row_dot(g, self._norm(g, v), f"{tensor}.weight", name=f"{tensor}.{c}")
            for c, v in enumerate(values)
        ]
        return softmax_mix(g, values, scores, name=tensor)

    def _norm(self, g: GraphBuilder, x: Value) -> Value:
        if x.id not in self._normed:
            self._normed[x.id] = g.rms_norm(x, "", eps=self.eps, name=f"{x.name}.rms")
        return self._normed[x.id]


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta attention, some layers gated latent attention without rope, experts."""
    meta = config.metadata
    block = meta.get("attn_res.block_size", int)
    sizes, is_delta = kda.Kda.from_config(config).bounded(config, -1.0), kda.delta_layers(config)
    latent = kda.without_rope(mla.Latent.from_config(config))
    latent = replace(latent, scale=(latent.nope + latent.rope) ** -0.5)
    unit = _unit(config)
    residuals = Residuals(block, config.rms_norm_eps)

    x = nn.embeddings(g, config)
    for i in range(len(is_delta)):
        blk = f"blk.{i}."
        h = residuals.mix(g, x, blk + "attn_res_score")
        is_start = block > 0 and i % block == 0
        if is_start:
            residuals.kept.append(x)
        h = nn.rms_norm(g, h, config, blk + "attn_norm")
        if is_delta[i]:
            h = kda.attend(g, h, config, sizes, i)
        else:
            width = config.num_attention_heads[i] * latent.v_dim
            h = kda.gated_latent(g, h, config, latent, width, i)
        x = h if is_start else g.add(x, h, name=blk + "ffn_inp")
        h = residuals.mix(g, x, blk + "ffn_res_score")
        h = nn.rms_norm(g, h, config, blk + "ffn_norm")
        x = g.add(x, _feed_forward(g, h, config, unit, i), name=blk + "l_out")
    lm_head.logits(g, residuals.mix(g, x, "output_res_score"), config)


def _unit(config: ModelConfig) -> mlp.Unit:
    bounds = (
        config.metadata.get("activation.situ_beta", float),
        config.metadata.get("activation.situ_linear_beta", float),
    )
    if not (bounds[0] > 0 and bounds[1] >= 0):
        raise ModelFormatError(
            f"keys '{config.architecture}.activation.situ_beta' and '.situ_linear_beta': expected "
            f"a positive number and no negative one, got {bounds}"
        )
    return mlp.Unit("situ", bounds)


def _feed_forward(g: GraphBuilder, x: Value, config: ModelConfig, unit: mlp.Unit, i: int) -> Value:
    """A gated network in the leading layers, else experts, which see a projection of x."""
    meta, blk = config.metadata, f"blk.{i}."
    if moe.is_dense(config, i):
        n_ff = config.intermediate_size[i]
        return mlp.network(g, x, blk + "ffn_", "", n_ff, unit=unit, name=blk + "ffn_out")
    y, latent = x, meta.get("expert_latent_length", int, 0) or config.hidden_size
    if g.has(blk + "ffn_routed_down.weight"):
        name = blk + "ffn_routed_down"
        y = g.matmul(x, f"{name}.weight", width=latent, name=name)
    y = moe.routed(
        g, y, config, i, moe.routing_of(g, config, i, "sigmoid"), unit=unit,
        logits=moe.router(g, x, config, i), name=blk + "ffn_moe_out",
    )  # fmt: skip
    if g.has(blk + "ffn_routed_norm.weight"):
        y = nn.rms_norm(g, y, config, blk + "ffn_routed_norm")
    if g.has(blk + "ffn_routed_up.weight"):
        name = blk + "ffn_routed_up"
        y = g.matmul(y, f"{name}.weight", width=config.hidden_size, name=name)
    if not g.has(blk + "ffn_gate_shexp.weight"):
        return y
    return g.add(y, moe.shared(g, x, i, unit=unit), name=blk + "ffn_out")
