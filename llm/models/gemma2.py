"""Gemma 2: "gemma2". Source: Gemma Team, "Gemma 2: Improving Open Language Models", 2024."""

import dataclasses

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _gemma as gemma
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

WINDOW_PERIOD = 2  # a layer with a window, then one without
WINDOW = 4096
ATTENTION_CAP = 50.0
FINAL_CAP = 30.0
LAYERS_27B = 46


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: scaled embeddings, norms around both blocks, windows, capped scores."""
    meta = config.metadata
    window = meta.get("attention.sliding_window", int, WINDOW)
    config = dataclasses.replace(config, sliding_window=window)
    cap = meta.get("attn_logit_softcapping", float, ATTENTION_CAP)
    scale = gemma.attention_scale(config, LAYERS_27B)
    windows = attn.windows_of(config, WINDOW_PERIOD)
    whole, local = ropes.rope_of(g, config, "neox"), ropes.window_rotation(config, "neox")

    def attention(x: Value, i: int) -> Value:
        turned = local if windows[i] else whole
        return attn.block(g, x, config, i, turned, scale=scale, window=windows[i], soft_cap=cap)

    def network(x: Value, i: int) -> Value:
        return mlp.gated_mlp(g, x, config, i, act="gelu")

    x = gemma.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        x = stack.between_norms(g, x, config, i, attention, network)
    final_cap = meta.get("final_logit_softcapping", float, FINAL_CAP)
    lm_head.scaled_logits(g, x, config, 1.0, final_cap)
