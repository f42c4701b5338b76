"""The speech token model of Qwen 3 TTS: "qwen3tts". Source: Qwen Team, "Qwen3-TTS", 2026."""

import math

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.pad_columns import pad_columns
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import qwen3vl


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 3 VL whose output matrix has speech tokens only.

    Speech tokens are the last of the vocabulary; all others get a logit of minus infinity.
    """
    x = g.select_outputs(qwen3vl.layers(g, config), name="output_rows")
    x = nn.rms_norm(g, x, config, "output_norm")
    name = "output" if g.has("output.weight") else "token_embd"
    n_out = g.weight(f"{name}.weight", (-1, config.hidden_size))[0]
    if n_out < config.vocab_size:
        y = nn.linear(g, x, name, n_out, bias=False, as_name="output.speech")
        pad_columns(g, y, config.vocab_size - n_out, -math.inf, name="output")
    else:
        nn.linear(g, x, name, config.vocab_size, bias=False, as_name="output")
