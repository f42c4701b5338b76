"""EXAONE 4: "exaone4". Source: LG AI Research, "EXAONE 4.0", 2025."""

from dataclasses import replace

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn

LAYERS_32B = 64
WINDOW = 4096  # of the 32B model, where the file does not say
WINDOW_PERIOD = 4  # three layers with a window and rope, then one with neither


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: norms behind both blocks and of heads; windows in the 32B model only."""
    n_layers = nn.n_layers_of(config)
    has_windows = n_layers == LAYERS_32B
    config = replace(config, sliding_window=config.sliding_window or WINDOW)
    windows = nn.windows_of(config, WINDOW_PERIOD) if has_windows else (0,) * n_layers
    rotation = dense.rope(g, config, "neox")

    def attention(x: Value, i: int) -> Value:
        turned = rotation if windows[i] or not has_windows else None
        return blocks.attend(g, x, config, i, turned, head_norms=True, window=windows[i])

    def network(x: Value, i: int) -> Value:
        return nn.gated_mlp(g, x, config, i)

    x = nn.embeddings(g, config)
    for i in range(n_layers):
        x = dense.before_norms(g, x, config, i, attention, network)
    nn.logits(g, x, config)
