"""SmolLM 3: "smollm3". Source: Hugging Face, "SmolLM3: smol, multilingual, long-context", 2025."""

from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _layers as nn

NO_ROPE_EVERY = 4  # Yang et al., "Rope to Nope and Back Again", 2025


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: a Llama whose every fourth layer has no positions."""
    rotation = nn.rope_of(g, config, "norm")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = nn.norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        if (i + 1) % NO_ROPE_EVERY:
            q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = nn.norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    nn.logits(g, x, config)
