"""NeoBERT: "neo-bert". Source: Le Breton et al., "NeoBERT: A Next-Generation BERT", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _dense as dense
from jitllm.llm.models import _encoder as encoder
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: RMS norms before the blocks, rope, halves that gate each other."""
    rotation = dense.plain_rope(config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        blk = f"blk.{i}."
        h = nn.norm(g, x, config, blk + "attn_norm")
        h = encoder.attend(g, h, config, i, rotation)
        x = g.add(h, x, name=blk + "ffn_inp")
        h = nn.norm(g, x, config, blk + "ffn_norm")
        h = blocks.fused_mlp(g, h, config, i)
        x = g.add(h, x, name=blk + "l_out")
    x = nn.norm(g, x, config, "output_norm", "enc.output_norm")
    g.select_outputs(x, name="hidden_states")
