"""GPT-NeoX, Pythia, Dolly and RedPajama: "gptneox".

Source: Black et al., "GPT-NeoX-20B", 2022.
"""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a GPT-2 with rope, its blocks mostly side by side, each with its own norm."""
    rotation = dense.plain_rope(config, "neox")
    x = nn.embeddings(g, config)
    if not config.metadata.get("use_parallel_residual", bool):
        dense.gpt(g, config, x, rotation=rotation)
        return
    for i in range(config.num_hidden_layers):
        h = dense.layer_norm(g, x, config, f"blk.{i}.attn_norm")
        heads = dense.turned_qkv(g, h, config, rotation, i)
        attention = nn.attend(g, *heads, config, i, bias=True)
        h = dense.layer_norm(g, x, config, f"blk.{i}.ffn_norm")
        network = blocks.plain_mlp(g, h, config, i, act="gelu")
        x = dense.side_by_side(g, x, attention, network, i)
    dense.logits(g, x, config, lambda x, name: dense.layer_norm(g, x, config, name))
