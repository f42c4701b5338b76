"""Hunyuan, dense: "hunyuan-dense". Source: Tencent, "Hunyuan-7B", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import hunyuan_vl


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: the language model of Hunyuan-VL is this one."""
    hunyuan_vl.build(g, config)
