"""DeepSeek 3.2: "deepseek32"."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _dsa


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: DeepSeek 3 whose rows attend to the positions that an index chooses."""
    _dsa.build(g, config, "neox", (True,) * config.num_hidden_layers, "softmax")


def build_mtp(g: GraphBuilder, config: ModelConfig, block: int) -> None:
    """Add the nodes of block `block` that predicts further tokens."""
    _dsa.build_mtp(g, config, block, "softmax")
