"""GPT-NeoX, Pythia, Dolly and RedPajama: "gptneox".

Source: Black et al., "GPT-NeoX-20B", 2022.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _attention as attn
from jitllm.llm.models import _lm_head as lm_head
from jitllm.llm.models import _mlp as mlp
from jitllm.llm.models import _nn as nn
from jitllm.llm.models import _rope as ropes
from jitllm.llm.models import _stack as stack


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a GPT-2 with rope, its blocks mostly side by side, each with its own norm."""
    rotation = ropes.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    if not config.metadata.get("use_parallel_residual", bool):
        stack.gpt(g, config, x, rotation=rotation)
        return
    for i in range(config.num_hidden_layers):
        h = nn.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = attn.roped_qkv(g, h, config, rotation, i)
        attention = attn.attend(g, *heads, config, i, bias=True)
        h = nn.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        network = mlp.plain_mlp(g, h, config, i, act="gelu")
        x = stack.side_by_side(g, x, attention, network, i)
    lm_head.normed_logits(g, x, config, lambda x, name: nn.layer_norm(g, x, config, name))
