"""MiniCPM 1 and 2: "minicpm". Source: Hu et al., "MiniCPM", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _granite as granite
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack

BASE_WIDTH = 256  # of the small model whose hyperparameters were carried over


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama with factors on embeddings, both branches and logits.

    Files without the factors mean 12, 1.4 / sqrt(layers), and BASE_WIDTH / n for the logits.
    """
    meta, n_layers = config.metadata, config.num_hidden_layers
    branch = meta.get("residual_scale", float, 1.4 / n_layers**0.5)
    rotation = ropes.any_rope_of(g, config, "norm")

    def norm(x: Value, name: str) -> Value:
        return nn.rms_norm(g, x, config, name)

    def attention(x: Value, i: int) -> Value:
        heads = attn.roped_qkv(g, x, config, rotation, i)
        y = attn.attend(g, *heads, config, i, bias=True)
        return nn.scaled(g, y, branch, f"blk.{i}.attn_out_scaled")

    def network(x: Value, i: int) -> Value:
        y = granite.network(g, x, config, i)
        return nn.scaled(g, y, branch, f"blk.{i}.ffn_out_scaled")

    x = nn.embeddings(g, config)
    x = nn.scaled(g, x, meta.get("embedding_scale", float, 12.0), "inp_scaled")
    x = stack.in_turn(g, x, config, norm, attention, network)
    factor = 1 / meta.get("logit_scale", float, config.hidden_size / BASE_WIDTH)
    lm_head.normed_logits(g, x, config, norm, factor=factor)
