"""NeoBERT: "neo-bert". Source: Le Breton et al., "NeoBERT: A Next-Generation BERT", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _encoder as encoder


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: RMS norms before the blocks, rope, halves that gate each other."""
    rotation = dense.plain_rope(config, "norm")
    encoder.pre_norm(g, config, rotation, blocks.fused_mlp, "enc.output_norm")
