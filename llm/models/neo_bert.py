"""NeoBERT: "neo-bert". Source: Le Breton et al., "NeoBERT: A Next-Generation BERT", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: RMS norms before the blocks, rope, halves that gate each other."""
    rotation = ropes.plain_rope(config, "norm")
    encoder.pre_norm(g, config, rotation, mlp.fused_mlp, "enc.output_norm")
