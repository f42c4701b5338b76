"""Qwen 3.5, dense: "qwen35". Source: Qwen Team, "Qwen3.5", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nextn as nextn
from jitllm.llm.models import _qwen35 as qwen35
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: delta nets, every fourth layer attention with an output gate."""
    stack.decoder(g, config, *_blocks(g, config))


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    nextn.head(g, config, block, _blocks(g, config))


def _blocks(g: GraphBuilder, config: ModelConfig) -> stack.Blocks:
    return qwen35.blocks(g, config, lambda x, i: mlp.gated_mlp(g, x, config, i, scale=True))
