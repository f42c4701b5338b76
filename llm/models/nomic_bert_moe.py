"""Nomic Embed 2: "nomic-bert-moe".

Source: Nussbaum and Duderstadt, "Training Sparse Mixture Of Experts Text Embedding Models", 2025.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing, experts
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a BERT with rope, some of whose networks are experts without gates."""
    rotation = ropes.plain_rope(config, "neox")
    encoder.bert(g, config, encoder.embeddings(g, config), _mlp, rotation=rotation)


def _mlp(g: GraphBuilder, x: Value, config: ModelConfig, i: int) -> Value:
    period = config.metadata.get("moe_every_n_layers", int, 0)
    if period < 1 or i % period != 1:
        return encoder.gelu_mlp(g, x, config, i)
    blk = f"blk.{i}."
    logits = g.matmul(
        x, blk + "ffn_gate_inp.weight", width=config.num_experts, name=blk + "ffn_moe_logits"
    )
    factor = config.metadata.get("expert_weights_scale", float, 0.0) or 1.0
    return experts(
        g,
        x,
        logits,
        Routing(config.num_experts_per_tok, norm=False, factor=factor),
        gate="",
        up=blk + "ffn_up_exps.weight",
        down=blk + "ffn_down_exps.weight",
        act="gelu",
        name=blk + "ffn_out",
    )
