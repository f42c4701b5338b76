"""Phi 1.5 and 2: "phi2". Source: Li et al., "Textbooks Are All You Need II", 2023."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: both blocks side by side behind one norm, biases, those of logits too."""
    rotation = ropes.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = attn.roped_qkv(g, h, config, rotation, i)
        attention = attn.attend(g, *heads, config, i, bias=True)
        network = mlp.plain_mlp(g, h, config, i, act="gelu")
        x = stack.side_by_side(g, x, attention, network, i)
    lm_head.normed_logits(
        g, x, config, lambda x, name: nn.layer_norm(g, x, config, name), bias="output.bias"
    )
