"""EXAONE 4: "exaone4". Source: LG AI Research, "EXAONE 4.0", 2025."""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

LAYERS_32B = 64
WINDOW = 4096  # of the 32B model, where the file does not say
WINDOW_PERIOD = 4  # three layers with a window and rope, then one with neither


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of heads; windows in the 32B model only."""
    n_layers = stack.n_layers_of(config)
    has_windows = n_layers == LAYERS_32B
    config = replace(config, sliding_window=config.sliding_window or WINDOW)
    windows = attn.windows_of(config, WINDOW_PERIOD) if has_windows else (0,) * n_layers
    rotation = ropes.any_rope_of(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        turned = rotation if windows[i] or not has_windows else None
        return attn.block(g, x, config, i, turned, head_norms=True, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(n_layers):
        x = stack.before_norms(g, x, config, i, attention, network)
    lm_head.logits(g, x, config)
