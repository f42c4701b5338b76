"""The speech token model of Qwen 3 TTS: "qwen3tts". Source: Qwen Team, "Qwen3-TTS", 2026."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import qwen3vl


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: those of Qwen 3 VL."""
    qwen3vl.build(g, config)
