"""gpt-oss: "gpt-oss". Source: OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.graph.words.experts import Routing
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _moe as moe
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models._mlp import Unit

WINDOW_PERIOD = 2  # a layer with a window, then one without
UNIT = Unit("swiglu_oai", (7.0, 1.702))  # of gate and up, and the slope of the sigmoid)


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: windows on every other layer, sinks, experts with biases."""
    whole, local = ropes.rope_of(g, config, "neox"), ropes.window_rotation(config, "neox")
    factor = config.metadata.get("expert_weights_scale", float, 0.0) or 1.0
    routing = Routing(config.num_experts_per_tok, "softmax_topk", norm=False, factor=factor)
    x = nn.embeddings(g, config)
    for i, window in enumerate(attn.windows_of(config, WINDOW_PERIOD)):
        blk = f"blk.{i}."
        h = nn.rms_norm(g, x, config, blk + "attn_norm")
        h = attn.block(
            g, h, config, i, local if window else whole,
            window=window, sinks=blk + "attn_sinks.weight", bias=True,
        )  # fmt: skip
        x = g.add(x, h, name=blk + "ffn_inp")

        h = nn.rms_norm(g, x, config, blk + "ffn_norm", blk + "post_attention_norm")
        h = moe.mixture(g, h, config, i, routing, unit=UNIT, bias=True)
        x = g.add(x, h, name=blk + "l_out")
    lm_head.logits(g, x, config)
