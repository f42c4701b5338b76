"""Mistral Small 4: "mistral4"."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _mla as mla
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: DeepSeek 2 with another YaRN, whose queries may grow with the position."""
    latent = mla.Latent.from_config(config)

    def attention(x: Value, i: int) -> Value:
        queries = mla.query_latent(g, x, config, latent, i)
        return mla.attend(g, x, queries, config, latent, i)

    def feed_forward(x: Value, i: int) -> Value:
        return moe.feed_forward(g, x, config, i)

    stack.decoder(g, config, attention, feed_forward)
