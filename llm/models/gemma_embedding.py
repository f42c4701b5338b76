"""EmbeddingGemma: "gemma-embedding".

Source: Schechter Vera et al., "EmbeddingGemma: Powerful and Lightweight Text Representations",
2025.
"""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 6  # five layers with a window, then one without


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Gemma 3 whose tokens all see each other, and the matrices behind it."""
    windows = attn.windows_of(config, WINDOW_PERIOD)
    whole, local = ropes.plain_rope(config, "neox"), gemma.window_rotation(config)

    def attention(x: Value, i: int) -> Value:
        turned = local if windows[i] else whole
        return attn.block(
            g, x, config, i, turned, head_norms=True, window=windows[i], causal=False, cache=False
        )

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i, act="gelu")

    x = gemma.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.between_norms(g, x, config, i, attention, network)
    x = nn.rms_norm(g, x, config, "output_norm")
    # these belong behind the pooling, but they are linear: before it they give the same
    for name in ("dense_2", "dense_3"):
        if g.has(f"{name}.weight"):
            x = g.matmul(x, f"{name}.weight", name=name)
    g.select_outputs(x, name="hidden_states")
