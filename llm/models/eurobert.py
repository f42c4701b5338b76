"""EuroBERT: "eurobert".

Source: Boizard et al., "EuroBERT: Scaling Multilingual Encoders for European Languages", 2025.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: the layers of a Llama, whose tokens all see each other."""
    rotation = ropes.plain_rope(config, "neox")
    encoder.pre_norm(g, config, rotation, mlp.gated_mlp, "output_norm")
