"""The language model of Qwen 2 and 2.5 VL: "qwen2vl". Source: Wang et al., "Qwen2-VL", 2024."""

from jitllm.backends.ir import Value
from jitllm.llm.config import ModelConfig
from jitllm.llm.graph.builder import GraphBuilder
from jitllm.llm.models import _blocks as blocks
from jitllm.llm.models import _layers as nn


def build(g: GraphBuilder, config: ModelConfig) -> None:
    """Add the nodes: Qwen 2 with rope in sections, which for text is common rope."""
    rotation = nn.rope_of(g, config, "neox")
    x = nn.embeddings(g, config)
    for i in range(config.num_hidden_layers):
        h = _norm(g, x, config, f"blk.{i}.attn_norm")
        q, k, v = nn.qkv(g, h, config, i)
        q, k = nn.turn(g, q, k, rotation, config, i)
        h = nn.attend(g, q, k, v, config, i)
        x = g.add(x, h, name=f"blk.{i}.ffn_inp")

        h = _norm(g, x, config, f"blk.{i}.ffn_norm")
        h = nn.gated_mlp(g, h, config, i)
        x = g.add(x, h, name=f"blk.{i}.l_out")
    x = g.select_outputs(x, name="output_rows")
    blocks.output(g, _norm(g, x, config, "output_norm"), config)


def _norm(g: GraphBuilder, x: Value, config: ModelConfig, name: str) -> Value:
    """RMS norm; epsilon may be 0 here."""
    eps = config.metadata.get("attention.layer_norm_rms_epsilon", float)
    return g.rms_norm(x, f"{name}.weight", eps=eps, name=name)
