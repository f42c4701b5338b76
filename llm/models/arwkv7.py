"""ARWKV, Qwen with RWKV-7's time mixing for attention: "arwkv7".

Source: Yueyu et al., "ARWKV: Pretrain is not what we need", 2025.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _rwkv as rwkv
from jitllm.llm.models._rwkv7 import TimeMix


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen's norms and networks; norm and gate of the states if there are any."""
    rwkv.qwen_layers(g, config, TimeMix(g, config))
